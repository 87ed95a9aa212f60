"""A worker that a user starts by hand."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.scheduling.next_trial import SearchEnd
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.device_slots import DeviceSlot
from canopy_search.search.workflows import search
from canopy_search.search.workflows.run_study import Limits
from canopy_search.search.workflows.search import work_on_screen
from tests.planned import planned


def test_its_device_is_named_in_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[SearchPlan] = []

    def one_gpu(device: str, workers: int) -> list[DeviceSlot]:
        assert (device, workers) == ("auto", 1)
        return [DeviceSlot("cuda:0")]

    def work(plan: SearchPlan, *_arguments: Any) -> SearchEnd:
        given.append(plan)
        return SearchEnd.COMPLETE

    monkeypatch.setattr(search, "device_slots", one_gpu)
    monkeypatch.setattr(search, "search_in_study", work)
    config = CanopyConfig.model_validate({"data": {"demo": "digits"}})
    assert work_on_screen(planned(config, tmp_path, "demo", 4), Console(quiet=True))
    assert [plan.slot for plan in given] == ["cuda:0"]


@pytest.mark.parametrize("end", SearchEnd)
def test_it_helps_to_confirm_when_the_search_has_its_answer(
    end: SearchEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmed: list[Limits] = []

    def confirm(_request: StudyRequest, limits: Limits, _console: Console) -> bool:
        confirmed.append(limits)
        return True

    monkeypatch.setattr(search, "search_in_study", lambda *_arguments: end)
    monkeypatch.setattr(search, "_confirm_at_end", confirm)
    config = CanopyConfig.model_validate({"data": {"demo": "digits"}})
    written = io.StringIO()
    assert work_on_screen(planned(config, tmp_path, "demo", 4), Console(file=written))
    early = end in {SearchEnd.TIME_UP, SearchEnd.STOPPED}
    assert confirmed == ([] if early else [Limits(workers=1)])
    assert f"study demo: {end.value}" in written.getvalue()
