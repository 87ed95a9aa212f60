"""SLURM options of the command line."""

from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.slurm.options import JobRequest, job_request


def test_sbatch_gets_a_gpu_for_each_job_and_its_other_options() -> None:
    request = job_request(
        "slurm",
        "auto",
        1.5,
        {
            "--gpus": 4,
            "--partition": "gpu",
            "--slurm": ["mem=16G", "--cpus-per-task=8", "exclusive"],
        },
    )
    assert request.jobs == 4
    assert request.parameters("canopy-demo", tasks=2, leave_s=30.4) == {
        "job_name": "canopy-demo",
        "time": 90,
        "signal_delay_s": 30,
        "ntasks_per_node": 2,
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
    request = job_request("slurm", "auto", 1.0, {"--gpus": 1, "--slurm": ["gres=gpu:a100:1"]})
    assert "gpus_per_node" not in request.parameters("canopy-demo", 1, 30)


def test_workers_are_jobs_without_a_gpu() -> None:
    request = job_request("slurm", 3, 0.01, {"--gpus": None})
    assert request == JobRequest(3, False, 0.01)
    assert request.parameters("canopy-demo", 1, 5)["time"] == 1  # SLURM knows nothing shorter


@pytest.mark.parametrize(
    "case",
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
    case: tuple[Any, int | None, float | None, list[str], str], words: SnapshotAssertion
) -> None:
    workers, gpus, hours, options, about = case
    with pytest.raises(PlacementError) as error:
        job_request("slurm", workers, hours, {"--gpus": gpus, "--slurm": options})
    assert about in str(error.value)
    assert str(error.value) == words
