"""What the backends of other machines have in common: the command, and how it ended."""

import secrets
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version

from canopy_search.search.config.yaml_file import yaml_text
from canopy_search.search.environment import DATABASE_VARIABLE, HOME_VARIABLE
from canopy_search.search.events import Ending, WorkerEnded
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.workers.command import (
    ASKED_TO_LEAVE,
    CANOPY,
    DONE,
    FAILED,
    INTERRUPTED,
    SICK,
    TIME_IS_UP,
    UNFIT,
    CommandEnd,
    WorkerCommand,
)
from canopy_search.search.workers.placed_worker import Placed

DATABASE_REMEDY = (
    "set DATABASE_URL to a Postgres server that all machines can reach "
    "(postgresql://user:password@host/database)"
)
_ID_BITS = 61  # an id has 62; those of the workers of one job follow each other
_ENDINGS = {
    DONE: Ending.DONE,
    UNFIT: Ending.UNFIT,
    FAILED: Ending.FAILED,
    SICK: Ending.SICK,
}


@dataclass(frozen=True)
class RemoteSearch:
    """A search whose workers are on other machines.

    Attributes:
        plan: plan of the search.
        note: receives messages for the user.
    """

    plan: SearchPlan
    note: Callable[[str], None] = field(repr=False)

    def command(self, *, threads: int | None, number: int, workers: int = 1) -> WorkerCommand:
        """Returns the command of a new worker.

        Args:
            threads: its threads if the configuration says ``auto``; None for its share.
            number: number of its slot.
            workers: number of workers that share its machine.
        """
        plan, workspace = self.plan, self.plan.workspace
        config = plan.config.model_dump(
            mode="json", exclude_unset=True, exclude={"provenance", "confirm", "clearml"}
        )
        environment = {DATABASE_VARIABLE: workspace.url or ""}
        if workspace.url is None:  # an embedded database means the same machine
            environment[HOME_VARIABLE] = str(workspace.home)
        worker_id = secrets.randbits(_ID_BITS)
        patience_min = repr(workspace.retry.limit_s / 60)
        return WorkerCommand(
            version=version(CANOPY),
            arguments=("--study", plan.study, "--database-patience", patience_min),
            config=yaml_text(config),
            placed=asdict(Placed(worker_id, plan.n_trials, workers, threads, number)),
            environment=environment,
            home=str(workspace.home),
        )

    def unreachable(self) -> str:
        """Returns the start of a message about machines that cannot reach the database."""
        url = self.plan.workspace.url
        database = "the embedded Postgres" if url is None else "the database of DATABASE_URL"
        return f"{database} cannot be reached"


def worker_ended(end: CommandEnd) -> WorkerEnded:
    """Returns the event for the end of a command."""
    exit_status, text = end
    if exit_status == INTERRUPTED:
        return WorkerEnded(Ending.LEFT, TIME_IS_UP if text == TIME_IS_UP else ASKED_TO_LEAVE)
    if exit_status in _ENDINGS:
        return WorkerEnded(_ENDINGS[exit_status], text)
    if exit_status < 0:
        return WorkerEnded(Ending.DIED, f"was killed by {signal.Signals(-exit_status).name}")
    last_line = f": {text.splitlines()[-1]}" if text else ""
    return WorkerEnded(Ending.DIED, f"ended with exit status {exit_status}{last_line}")
