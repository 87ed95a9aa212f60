"""What can be wrong with pages and pictures."""


class DashboardError(Exception):
    """Base of every error that `dashboards` raises on purpose.

    Attributes:
        exit_status: of the command line: 2 for a mistake of the caller, 1 for a failure.
    """

    exit_status = 1


class PortInUseError(DashboardError):
    """Another program listens on the port."""

    exit_status = 2


class TrackerError(DashboardError):
    """Base of what can go wrong between the mirror and the tracker's server."""


class TrackerConfigError(TrackerError):
    """The tracker's own configuration is missing or cannot be read."""

    exit_status = 2


class TrackerUnavailableError(TrackerError):
    """The server does not answer, or not as it should; it may later."""


class TrackerRefusesError(TrackerUnavailableError):
    """The server refuses the credentials; somebody has to mend that."""


class TrackerRejectsError(TrackerError):
    """The server takes one request for wrong, and will again."""


class ExportFormatError(DashboardError):
    """It cannot be told in which format a file is to be written."""

    exit_status = 2


class DiaryError(DashboardError):
    """A file is no diary of the study, or its marks are broken, so that it is not replaced."""

    exit_status = 2


class ComparisonError(DashboardError):
    """Trials that are to be compared do not exist, or are not two to six."""

    exit_status = 2
