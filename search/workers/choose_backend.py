"""Which engine places the workers, as the command line has it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from canopy_search.search.errors import PlacementError

if TYPE_CHECKING:  # the command line does not wait for what that imports
    from canopy_search.search.workers.backend import Placement


class BackendName(StrEnum):
    """Where workers run."""

    HERE = "here"
    RAY = "ray"
    SLURM = "slurm"
    SLURM_LOCAL = "slurm-local"


_JOBS = ("--partition", "--gpus", "--slurm")
OPTIONS: dict[BackendName, tuple[str, ...]] = {
    BackendName.HERE: (),
    BackendName.RAY: ("--address",),
    BackendName.SLURM: _JOBS,
    BackendName.SLURM_LOCAL: _JOBS,
}
"""The options that belong to a place alone."""

OF_EACH_JOB = (BackendName.SLURM, BackendName.SLURM_LOCAL)
"""Where --hours is the time limit of each job, and not of the search."""


def placement(
    on: BackendName,
    workers: int | Literal["auto"],
    options: Mapping[str, Any],
    *,
    hours: float | None = None,
) -> "Placement | None":
    """Returns the engine that is asked for; None for this machine.

    Args:
        on: where workers run.
        workers: the most; ``auto`` for one for each device slot.
        options: all those of `OPTIONS`, by their names; what is empty was not given.
        hours: value of --hours.

    Raises:
        PlacementError: an option belongs to another engine, or the engine is not installed.
    """
    for option, value in options.items():
        if value and option not in OPTIONS[on]:
            places = [place for place, names in OPTIONS.items() if option in names]
            raise PlacementError(
                f"{option} belongs to --on {' or '.join(places)}, and the workers are placed by "
                f"--on {on}; leave one of them out"
            )
    if on is BackendName.HERE:
        return None
    if on in OF_EACH_JOB:
        from canopy_search.search.workers.slurm.backend import OnSlurm, check_submitit
        from canopy_search.search.workers.slurm.options import job_request
        from canopy_search.search.workers.slurm.queue import check_slurm

        check_submitit()
        if on is BackendName.SLURM:
            check_slurm()  # before a database is begun
        request = job_request(
            on,
            workers,
            options.get("--gpus"),
            hours,
            options.get("--partition"),
            options.get("--slurm") or (),
        )
        return OnSlurm(request, is_local=on is BackendName.SLURM_LOCAL)
    from canopy_search.search.workers.ray.backend import OnRay, check_ray

    check_ray()
    return OnRay(options.get("--address"), workers)
