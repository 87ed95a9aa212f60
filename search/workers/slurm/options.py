"""What is asked of SLURM for each job, as the command line has it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from canopy_search.search.errors import PlacementError

SHORTEST_S = 30.0
"""A job that is given less is at its end before it has begun."""

_OURS = {
    "time": "that is --hours",
    "partition": "that is --partition",
    **dict.fromkeys(("nodes", "ntasks", "ntasks_per_node", "array"), "each job is one task"),
    **dict.fromkeys(("output", "error", "open_mode"), "what jobs write belongs to the search"),
    **dict.fromkeys(("requeue", "no_requeue", "signal"), "the search places the next job itself"),
}
_GPU_KEYS = frozenset({"gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket", "gres"})
_KEY = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class JobRequest:
    """How many jobs there are to be, and what each of them asks for.

    Attributes:
        jobs: at a time.
        has_gpu: whether each has a GPU, and otherwise one worker on a CPU.
        hours: the time limit of each.
        partition: None for SLURM's default.
        options: further ones of ``sbatch``, by their names with underscores; True for one that has
            no value.
    """

    jobs: int
    has_gpu: bool
    hours: float
    partition: str | None = None
    options: dict[str, str | bool] = field(default_factory=dict)

    @property
    def limit_s(self) -> float:
        """The time limit of each job, in seconds."""
        return 3600 * self.hours

    @property
    def limit_min(self) -> int:
        """The same in SLURM's unit, which knows no smaller one."""
        return max(1, math.ceil(self.limit_s / 60))

    def parameters(self, name: str, leave_s: float) -> dict[str, Any]:
        """Returns the parameters of submitit's executor.

        Args:
            name: of the jobs.
            leave_s: SLURM's signal comes as long before the limit as this, if the job has not left.
        """
        # A job that SLURM would begin again on its own is one that the search replaces besides.
        more: dict[str, str | bool] = {"no_requeue": True, **self.options}
        parameters: dict[str, Any] = {
            "job_name": name,
            "time": self.limit_min,
            "signal_delay_s": round(leave_s),
            "additional_parameters": more,
        }
        if self.partition is not None:
            parameters["partition"] = self.partition
        if self.has_gpu and not _GPU_KEYS & self.options.keys():
            parameters["gpus_per_node"] = 1
        if "cpus_per_task" in self.options:
            # srun does not take it from the job since SLURM 22.05.
            parameters["srun_args"] = [f"--cpus-per-task={self.options['cpus_per_task']}"]
        return parameters


def job_request(  # noqa: PLR0917 - what the command line has
    on: str,
    workers: int | Literal["auto"],
    gpus: int | None,
    hours: float | None,
    partition: str | None,
    options: Sequence[str],
) -> JobRequest:
    """Returns what is asked for, checked as far as it can be without SLURM.

    Args:
        on: the value of ``--on``, for what is said.
        workers: value of ``--workers``; so many jobs of one worker on a CPU; ``auto`` if none.
        gpus: value of ``--gpus``; so many jobs of a GPU each.
        hours: value of ``--hours``.
        partition: value of ``--partition``.
        options: values of ``--slurm``.

    Raises:
        PlacementError: something is missing, or is one too many.
    """
    if gpus is not None and workers != "auto":
        raise PlacementError(
            f"--workers {workers} and --gpus {gpus}: each job has one GPU, or one worker on a CPU; "
            "leave one of them out"
        )
    jobs = gpus if gpus is not None else workers
    if jobs == "auto":
        raise PlacementError(
            f"--on {on} needs the number of jobs: --gpus N for jobs of a GPU each, or --workers N "
            "for jobs of one worker on a CPU"
        )
    if hours is None:
        raise PlacementError(f"--on {on} needs the time limit of each job: --hours H")
    if 3600 * hours < SHORTEST_S:
        raise PlacementError(
            f"--hours {hours:g}: a job of {3600 * hours:.0f} s is over before it has begun; give "
            f"it {SHORTEST_S:.0f} s at the very least"
        )
    return JobRequest(jobs, gpus is not None, hours, partition, dict(map(_option, options)))


def _option(text: str) -> tuple[str, str | bool]:
    """Returns the key and value of ``KEY=VALUE``, or of ``KEY`` alone.

    Raises:
        PlacementError: it is neither, or an option that is Canopy's own.
    """
    key, _, value = text.partition("=")
    key = key.strip().removeprefix("--").replace("-", "_")
    if not _KEY.fullmatch(key) or "\n" in value:
        raise PlacementError(
            f"--slurm {text!r}: expected an option of sbatch as KEY=VALUE, as in --slurm mem=16G"
        )
    if key in _OURS:
        raise PlacementError(f"--slurm {key}: {_OURS[key]}; leave it out")
    return key, value.strip() or True
