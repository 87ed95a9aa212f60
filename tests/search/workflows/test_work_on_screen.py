"""A worker that a user starts by hand."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.device_slots import DeviceSlot
from canopy_search.search.workflows import search
from canopy_search.search.workflows.search import work_on_screen
from tests.planned import planned


def test_its_device_is_named_in_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[SearchPlan] = []

    def one_gpu(device: str, workers: int) -> list[DeviceSlot]:
        assert (device, workers) == ("auto", 1)
        return [DeviceSlot("cuda:0")]

    def work(plan: SearchPlan, *_arguments: Any) -> None:
        given.append(plan)

    monkeypatch.setattr(search, "device_slots", one_gpu)
    monkeypatch.setattr(search, "search_in_study", work)
    config = CanopyConfig.model_validate({"data": {"demo": "digits"}})
    assert work_on_screen(planned(config, tmp_path, "demo", 4), Console(quiet=True))
    assert [plan.slot for plan in given] == ["cuda:0"]
