"""Choice of the backend from the command line."""

import importlib.util
from importlib.machinery import ModuleSpec

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.choose_backend import BackendName, placement
from canopy_search.search.workers.ray.backend import OnRay
from canopy_search.search.workers.slurm.backend import OnSlurm
from canopy_search.search.workers.slurm.options import JobRequest


def test_this_machine_has_no_engine() -> None:
    assert placement(BackendName.LOCAL, "auto", {"--address": None}) is None


def test_ray_has_an_address_and_a_number_of_workers() -> None:
    assert placement(BackendName.RAY, 3, {"--address": "h:1"}) == OnRay("h:1", 3)
    assert placement(BackendName.RAY, "auto", {"--address": None}) == OnRay(None, "auto")


def test_an_option_of_another_engine_is_refused(words: SnapshotAssertion) -> None:
    with pytest.raises(PlacementError) as error:
        placement(BackendName.LOCAL, "auto", {"--address": "h:1"})
    assert str(error.value) == words


def test_without_ray_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "ray" else found(name, package)

    monkeypatch.setattr("canopy_search.search.workers.ray.backend.find_spec", find_spec)
    with pytest.raises(PlacementError) as error:
        placement(BackendName.RAY, "auto", {})
    assert str(error.value) == words


def test_slurm_has_jobs_of_a_gpu_or_of_a_worker_each(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setattr("shutil.which", lambda command: None)
    with pytest.raises(PlacementError) as error:
        placement(BackendName.SLURM, 1, {}, hours=1.0)
    assert str(error.value) == words
    monkeypatch.setattr("canopy_search.search.workers.slurm.queue.check_slurm", lambda: None)
    options = {"--address": None, "--partition": "short", "--gpus": 4, "--slurm": ["mem=16G"]}
    backend = placement(BackendName.SLURM, "auto", options, hours=2.0)
    assert backend == OnSlurm(JobRequest(4, True, 2.0, "short", {"mem": "16G"}))
    local = placement(BackendName.SLURM_LOCAL, 3, {}, hours=2.0)
    assert local == OnSlurm(JobRequest(3, False, 2.0), is_local=True)


def test_an_option_of_slurm_is_refused_elsewhere(words: SnapshotAssertion) -> None:
    with pytest.raises(PlacementError) as error:
        placement(BackendName.RAY, "auto", {"--gpus": 1})
    assert str(error.value) == words(name="gpus")
    with pytest.raises(PlacementError) as error:
        placement(BackendName.SLURM, 1, {"--address": "h:1"}, hours=1.0)
    assert str(error.value) == words(name="address")


def test_without_submitit_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "submitit" else found(name, package)

    monkeypatch.setattr("canopy_search.search.workers.slurm.backend.find_spec", find_spec)
    with pytest.raises(PlacementError) as error:
        placement(BackendName.SLURM, 1, {}, hours=1.0)
    assert str(error.value) == words
