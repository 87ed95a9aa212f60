from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.workers import local_backend
from canopy_search.search.workers.device_slots import DeviceSlot
from canopy_search.search.workers.local_backend import LocalBackend
from canopy_search.search.workers.process import WorkerJob
from tests.planned import planned


def test_workers_know_how_many_share_their_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[WorkerJob] = []
    end = SimpleNamespace(close=lambda: None)

    def process(args: tuple[WorkerJob, object], **_options: Any) -> Any:
        jobs.append(args[0])
        return SimpleNamespace(start=lambda: None)

    context = SimpleNamespace(Pipe=lambda duplex: (end, end), Process=process)
    monkeypatch.setattr(local_backend, "CONTEXT", context)
    monkeypatch.setattr(local_backend, "warm_up", lambda: None)  # nothing is started
    config = CanopyConfig.model_validate({"data": {"demo": "digits"}})
    slots = [DeviceSlot(name, {"SEEN": name}) for name in ("cuda:0", "cuda:1", "cuda:0")]
    backend = LocalBackend(planned(config, tmp_path, "demo", 4), slots)
    for slot in backend.slots():
        backend.submit(slot, tmp_path / "log")
    assert [job.plan.workers_on_device for job in jobs] == [2, 1, 2]
    assert [job.environment["SEEN"] for job in jobs] == ["cuda:0", "cuda:1", "cuda:0"]
