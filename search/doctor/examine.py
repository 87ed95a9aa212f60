"""Runs all checks of `canopy doctor`, one by one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from canopy_search.dashboards.errors import DashboardError
from canopy_search.filestore.messages import first_line
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.doctor.finding import Finding, error, failure, ok
from canopy_search.search.doctor.packages import check_packages, check_python
from canopy_search.search.errors import SearchError
from canopy_search.search.study.configuration import DEFAULT_CONFIG, load_config
from canopy_search.search.study.request import StudyRequest
from canopy_search.storage.connection.urls import DATABASE_FAILURES, failure_text
from canopy_search.storage.errors import DatabaseUrlError, StorageError
from canopy_search.storage.workspace import Workspace
from canopy_search.training.errors import TrainingError
from canopy_search.training.settings import TrainingSettings

if TYPE_CHECKING:
    from canopy_search.training.data.dataset import DataFacts

_OWN_ERRORS = (SearchError, DashboardError, StorageError, TrainingError)
_EXPECTED = (*_OWN_ERRORS, *DATABASE_FAILURES, OSError)

# Remedies for errors whose message has none.
_REMEDIES = {
    "configuration": "correct the file; then data and memory are checked",
    "data": "correct the label file, or data in the configuration",
    "device": "correct training.device and training.precision",
    "checkpoints": "correct stages.checkpoints",
    "database": "check DATABASE_URL, and that the server is running",
}
_INSTALL = "reinstall what is missing or broken: make clean install, or see packages above"
_REMEDY = "follow the message, or show it to the administrator of this machine"


def examine(workspace: Workspace, config_path: Path | None) -> Iterator[Finding]:
    """Runs all checks; an error in one becomes its finding, and the next one runs.

    Nothing is changed, except that a stopped embedded server is started.

    Args:
        workspace: the state folder and the database.
        config_path: the configuration; None for the default one.

    Yields:
        Findings, causes before their consequences.
    """
    for name, check in _Examination(workspace, config_path).checks().items():
        try:
            yield from check()
        except DatabaseUrlError as problem:
            yield error(name, str(problem), "correct DATABASE_URL")
        except ImportError as problem:
            yield error(name, first_line(problem), _INSTALL)
        except _EXPECTED as problem:
            yield failure(name, _message(problem), _REMEDIES.get(name, _REMEDY))


class _Examination:
    """The checks, and the results of earlier ones that later ones need.

    Each check is imported just before it runs: a missing package must not hide the others.

    Attributes:
        config: the configuration; None until it is read, and if it cannot be read.
        data: facts about the data; None likewise.
    """

    def __init__(self, workspace: Workspace, config_path: Path | None) -> None:
        self._workspace = workspace
        self._home = workspace.home
        self._config_path = config_path
        self.config: CanopyConfig | None = None
        self.data: DataFacts | None = None
        self._has_folder = False
        self._can_be_built = False

    def checks(self) -> dict[str, Callable[[], Iterator[Finding]]]:
        """Returns subject → check, in the order in which they run."""
        return {
            "python": check_python,
            "packages": check_packages,
            "configuration": self._check_configuration,
            "data": self._check_data,
            "device": self._check_device,
            "networks": self._check_networks,
            "memory": self._check_memory,
            "state folder": self._check_state_folder,
            "disk": self._check_disk,
            "checkpoints": self._check_checkpoints,
            "database": self._check_database,
            "dashboard": self._check_dashboard_port,
            "ClearML": self._check_tracker,
        }

    def _check_configuration(self) -> Iterator[Finding]:
        from canopy_search.search.study.plan import plan_search

        configuration = load_config(self._config_path)
        self.config = configuration.settings
        search = self.config.search
        plan_search(StudyRequest(self._workspace, configuration, search.study), search.trials)
        named: Path | str | None = self._config_path
        if named is None:
            named = DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else "the built-in demo"
        yield ok(
            "configuration",
            f"{named}: study {search.study}, {search.trials} trials over {', '.join(search.space)}",
        )

    def _check_data(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.data import check_data

        if self.config is not None:
            self.data, finding = check_data(self.config.data, self._home)
            yield finding

    def _check_device(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.device import check_device

        yield from check_device(self.config.training if self.config else TrainingSettings())

    def _check_networks(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.networks import check_networks

        if self.config is not None and self.data is not None:
            findings = list(check_networks(self.config, self.data))
            self._can_be_built = all(finding.status == "ok" for finding in findings)
            yield from findings

    def _check_memory(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.device import check_memory

        if self.config is not None and self.data is not None and self._can_be_built:
            yield from check_memory(self.config, self.data)

    def _check_state_folder(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.state_folder import check_state_folder

        for finding in check_state_folder(self._home):
            self._has_folder = finding.status == "ok"
            yield finding

    def _check_disk(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.state_folder import check_disk

        if self._has_folder:
            yield from check_disk(self._home, self.data)

    def _check_checkpoints(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.checkpoints import check_checkpoints

        if self.config is not None:
            yield from check_checkpoints(self.config.stages, self._home)

    def _check_database(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.database import check_database

        yield from check_database(self._workspace)

    def _check_dashboard_port(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.dashboard_port import check_dashboard_port

        yield from check_dashboard_port()

    def _check_tracker(self) -> Iterator[Finding]:
        from canopy_search.search.doctor.clearml import check_tracker

        yield from check_tracker(self.config.clearml if self.config else None)


def _message(problem: Exception) -> str:
    if isinstance(problem, _OWN_ERRORS):
        return str(problem)
    if isinstance(problem, DATABASE_FAILURES):
        return failure_text(problem)
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return first_line(problem)
