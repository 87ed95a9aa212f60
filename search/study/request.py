"""What a command asks for: a study, its configuration and its workspace."""

from dataclasses import dataclass

from canopy_search.search.study.configuration import Configuration
from canopy_search.storage.workspace import Workspace


@dataclass(frozen=True)
class StudyRequest:
    """A study to work on.

    Attributes:
        workspace: the state folder and the database.
        configuration: this machine's, checked.
        study: name of the study.
    """

    workspace: Workspace
    configuration: Configuration
    study: str
