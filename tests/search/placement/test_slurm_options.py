"""What is asked of SLURM for each job."""

import pytest
from submitit.slurm.slurm import SlurmExecutor

from search.errors import PlacementError
from search.placement.slurm_options import JobRequest, job_request

OPTIONS = ["account=vision", "mem=16G", "exclusive", "cpus-per-task=4", "comment=a=b"]


def test_options_reach_the_script_that_sbatch_reads(tmp_path: object) -> None:
    request = job_request("slurm", "auto", 2, 1.5, "gpu", OPTIONS)
    parameters = request.parameters("canopy-study", 30)
    from submitit.slurm import slurm

    text = slurm._make_sbatch_string("run", str(tmp_path), **parameters)
    lines = {line.removeprefix("#SBATCH --") for line in text.splitlines() if "#SBATCH" in line}
    assert lines >= {
        "account=vision",
        "mem=16G",
        "exclusive",
        "cpus-per-task=4",
        "comment=a=b",
        "job-name=canopy-study",
        "partition=gpu",
        "gpus-per-node=1",
        "time=90",
        "no-requeue",
        "signal=USR2@30",
    }
    (srun,) = (line for line in text.splitlines() if line.startswith("srun"))
    assert "--cpus-per-task=4" in srun
    assert SlurmExecutor._valid_parameters() >= parameters.keys()


@pytest.mark.parametrize("option", ["gres=gpu:a100:1", "gpus_per_node=a100:1"])
def test_gpus_of_a_kind_stand_for_the_one_of_any_kind(option: str) -> None:
    request = job_request("slurm", "auto", 1, 1, None, [option])
    assert "gpus_per_node" not in request.parameters("name", 30)


def test_slurm_counts_in_minutes_and_gives_no_less_than_is_asked_for() -> None:
    assert JobRequest(1, has_gpu=False, hours=90.5 / 3600).limit_min == 2
    assert JobRequest(1, has_gpu=False, hours=1).limit_min == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("auto", None, 1.0, None, []), "needs the number of jobs: --gpus N"),
        ((2, 3, 1.0, None, []), "--workers 2 and --gpus 3: each job has one GPU"),
        ((2, None, None, None, []), "needs the time limit of each job: --hours H"),
        ((2, None, 0.001, None, []), "--hours 0.001: a job of 4 s is over before it has begun"),
        ((2, None, 1.0, None, ["time=5"]), "--slurm time: that is --hours"),
        ((2, None, 1.0, None, ["Mem 16G"]), "expected an option of sbatch as KEY=VALUE"),
        ((2, None, 1.0, None, ["mem=1\n#SBATCH --x"]), "expected an option of sbatch"),
    ],
)
def test_what_is_missing_or_too_much_is_said(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(PlacementError, match=message.replace("(", r"\(")):
        job_request("slurm", *arguments)  # type: ignore[arg-type]
