"""Options of each SLURM job, from the command line."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from canopy_search.search.errors import PlacementError

SHORTEST_S = 30.0
"""A job with a shorter limit would end before its workers start."""

_RESERVED = {
    "time": "use --hours",
    "partition": "use --partition",
    **dict.fromkeys(("nodes", "ntasks", "ntasks_per_node", "array"), "Canopy chooses it"),
    **dict.fromkeys(("output", "error", "open_mode"), "Canopy reads the output of the jobs"),
    **dict.fromkeys(("requeue", "no_requeue", "signal"), "Canopy submits the next job itself"),
}
_GPU_KEYS = frozenset({"gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket", "gres"})
_KEY = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class JobRequest:
    """Number of jobs, and the resources of each.

    Attributes:
        jobs: number of jobs at a time.
        has_gpu: whether each job has a GPU; otherwise it has one worker on a CPU.
        hours: time limit of each job.
        partition: SLURM partition; None for SLURM's default.
        options: additional options of ``sbatch``, by name with underscores; True for an option
            without a value.
    """

    jobs: int
    has_gpu: bool
    hours: float
    partition: str | None = None
    options: dict[str, str | bool] = field(default_factory=dict)

    @property
    def limit_s(self) -> float:
        """Time limit of each job, in seconds."""
        return 3600 * self.hours

    @property
    def limit_min(self) -> int:
        """Time limit in minutes, SLURM's smallest unit, rounded up."""
        return max(1, math.ceil(self.limit_s / 60))

    def parameters(self, name: str, tasks: int, leave_s: float) -> dict[str, Any]:
        """Returns the parameters of submitit's executor.

        Args:
            name: name of the jobs.
            tasks: number of workers of each job.
            leave_s: SLURM signals the job this long before the limit, if it still runs.
        """
        # Without it, both SLURM and the search would replace a job.
        sbatch_options: dict[str, str | bool] = {"no_requeue": True, **self.options}
        parameters: dict[str, Any] = {
            "job_name": name,
            "time": self.limit_min,
            "signal_delay_s": round(leave_s),
            "additional_parameters": sbatch_options,
        }
        if tasks > 1:
            parameters["ntasks_per_node"] = tasks
        if self.partition is not None:
            parameters["partition"] = self.partition
        if self.has_gpu and not _GPU_KEYS & self.options.keys():
            parameters["gpus_per_node"] = 1
        if "cpus_per_task" in self.options:
            # Since SLURM 22.05, srun does not inherit it from the job.
            parameters["srun_args"] = [f"--cpus-per-task={self.options['cpus_per_task']}"]
        return parameters


def job_request(
    on: str, workers: int | Literal["auto"], hours: float | None, options: Mapping[str, Any]
) -> JobRequest:
    """Returns the request, checked as far as possible without SLURM.

    Args:
        on: value of ``--on``, for error messages.
        workers: value of ``--workers``, the number of jobs with one CPU worker; ``auto`` if not
            given.
        hours: value of ``--hours``.
        options: values of ``--gpus``, the number of jobs with one GPU, ``--partition`` and
            ``--slurm``, by name.

    Raises:
        PlacementError: an option is missing, or two exclude each other.
    """
    gpus: int | None = options.get("--gpus")
    if gpus is not None and workers != "auto":
        raise PlacementError(
            f"--workers {workers} and --gpus {gpus}: a job has either one GPU or one worker on a "
            "CPU; remove one of them"
        )
    jobs = gpus if gpus is not None else workers
    if jobs == "auto":
        raise PlacementError(
            f"--on {on} needs the number of jobs: --gpus N for jobs with one GPU, or --workers N "
            "for jobs with one worker on a CPU"
        )
    if hours is None:
        raise PlacementError(f"--on {on} needs the time limit of each job: --hours H")
    if 3600 * hours < SHORTEST_S:
        raise PlacementError(
            f"--hours {hours:g}: a job of {3600 * hours:.0f} s ends before its workers start; use "
            f"at least {SHORTEST_S:.0f} s"
        )
    more = dict(map(_option, options.get("--slurm") or ()))
    return JobRequest(jobs, gpus is not None, hours, options.get("--partition"), more)


def _option(text: str) -> tuple[str, str | bool]:
    """Returns the key and value of ``KEY=VALUE``, or of ``KEY`` alone.

    Raises:
        PlacementError: it is neither, or Canopy sets this option itself.
    """
    key, _, value = text.partition("=")
    key = key.strip().removeprefix("--").replace("-", "_")
    if not _KEY.fullmatch(key) or "\n" in value:
        raise PlacementError(
            f"--slurm {text!r}: expected an option of sbatch as KEY=VALUE, as in --slurm mem=16G"
        )
    if key in _RESERVED:
        raise PlacementError(f"--slurm {key}: not allowed; {_RESERVED[key]}")
    return key, value.strip() or True
