"""SLURM options of the command line."""

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.slurm.options import JobRequest, job_request


def test_sbatch_gets_a_gpu_for_each_job_and_its_other_options() -> None:
    request = job_request(
        "slurm", "auto", 4, 1.5, "gpu", ["mem=16G", "--cpus-per-task=8", "exclusive"]
    )
    assert request.jobs == 4
    assert request.parameters("canopy-demo", leave_s=30.4) == {
        "job_name": "canopy-demo",
        "time": 90,
        "signal_delay_s": 30,
        "partition": "gpu",
        "gpus_per_node": 1,
        "srun_args": ["--cpus-per-task=8"],
        "additional_parameters": {
            "no_requeue": True,
            "mem": "16G",
            "cpus_per_task": "8",
            "exclusive": True,
        },
    }


def test_a_kind_of_gpu_stands_for_any() -> None:
    request = job_request("slurm", "auto", 1, 1.0, None, ["gres=gpu:a100:1"])
    assert "gpus_per_node" not in request.parameters("canopy-demo", 30)


def test_workers_are_jobs_without_a_gpu() -> None:
    request = job_request("slurm", 3, None, 0.01, None, [])
    assert request == JobRequest(3, False, 0.01)
    assert request.parameters("canopy-demo", 5)["time"] == 1  # SLURM knows nothing shorter


@pytest.mark.parametrize(
    ("workers", "gpus", "hours", "options", "about"),
    [
        (2, 2, 1.0, [], "--gpus 2"),
        ("auto", None, 1.0, [], "--gpus N"),
        ("auto", 2, None, [], "--hours H"),
        ("auto", 2, 0.001, [], "--hours 0.001"),
        ("auto", 2, 1.0, ["time=5"], "--slurm time"),
        ("auto", 2, 1.0, ["partition=x"], "--slurm partition"),
        ("auto", 2, 1.0, ["=16G"], "--slurm '=16G'"),
        ("auto", 2, 1.0, ["mem=1\n#SBATCH --uid=0"], "--slurm"),
    ],
    ids=[
        "both",
        "no jobs",
        "no time",
        "no time at all",
        "time",
        "partition",
        "no key",
        "two lines",
    ],
)
def test_a_mistake_is_told(
    workers: int,
    gpus: int | None,
    *,
    hours: float | None,
    options: list[str],
    about: str,
    words: SnapshotAssertion,
) -> None:
    with pytest.raises(PlacementError) as error:
        job_request("slurm", workers, gpus, hours, None, options)  # type: ignore[arg-type]
    assert about in str(error.value)
    assert str(error.value) == words
