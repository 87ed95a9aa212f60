"""Chooses the backend that places the workers, from the command line."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from canopy_search.search.errors import PlacementError

if TYPE_CHECKING:  # keeps the command line fast: this imports torch
    from canopy_search.search.workers.backend import Placement


class BackendName(StrEnum):
    """Where workers run."""

    LOCAL = "here"
    RAY = "ray"
    SLURM = "slurm"
    SLURM_LOCAL = "slurm-local"


_JOB_OPTIONS = ("--partition", "--gpus", "--slurm")
OPTIONS: dict[BackendName, tuple[str, ...]] = {
    BackendName.LOCAL: (),
    BackendName.RAY: ("--address",),
    BackendName.SLURM: _JOB_OPTIONS,
    BackendName.SLURM_LOCAL: _JOB_OPTIONS,
}
"""The options that only one backend, or one kind, accepts."""

OF_EACH_JOB = (BackendName.SLURM, BackendName.SLURM_LOCAL)
"""Backends for which --hours limits each job, not the whole search."""


def placement(
    on: BackendName,
    workers: int | Literal["auto"],
    options: Mapping[str, Any],
    *,
    hours: float | None = None,
) -> "Placement | None":
    """Returns the requested backend; None for this machine.

    Args:
        on: where workers run.
        workers: maximum number of workers; ``auto`` for one per device slot.
        options: all options of `OPTIONS` by name; an empty value means not given.
        hours: value of --hours.

    Raises:
        PlacementError: an option belongs to another backend, or the backend is not installed.
    """
    for option, value in options.items():
        if value and option not in OPTIONS[on]:
            backends = [name for name, accepted in OPTIONS.items() if option in accepted]
            raise PlacementError(
                f"{option} requires --on {' or '.join(backends)}, but this search uses --on {on}; "
                "remove one of them"
            )
    if on is BackendName.LOCAL:
        return None
    if on in OF_EACH_JOB:
        from canopy_search.search.workers.slurm.backend import OnSlurm, check_submitit
        from canopy_search.search.workers.slurm.options import job_request
        from canopy_search.search.workers.slurm.queue import check_slurm

        check_submitit()
        if on is BackendName.SLURM:
            check_slurm()  # before a database is started
        request = job_request(on, workers, hours, options)
        return OnSlurm(request, is_local=on is BackendName.SLURM_LOCAL)
    from canopy_search.search.workers.ray.backend import OnRay, check_ray

    check_ray()
    return OnRay(options.get("--address"), workers)
