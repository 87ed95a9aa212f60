"""Errors that pages, charts and mirrors raise."""


class DashboardError(Exception):
    """Base class of all errors of `dashboards`.

    Attributes:
        exit_status: of the command: 2 for a mistake of the caller, 1 for a failure.
    """

    exit_status = 1


class PortInUseError(DashboardError):
    """Another program uses the port."""

    exit_status = 2


class TrackerError(DashboardError):
    """Base class of errors between the mirror and the tracking server."""


class TrackerConfigError(TrackerError):
    """The tracker's configuration is missing or unreadable."""

    exit_status = 2


class TrackerUnavailableError(TrackerError):
    """The server does not answer, or answers incorrectly; retry later."""


class TrackerRefusesError(TrackerUnavailableError):
    """The server refuses the credentials; the user has to fix them."""


class TrackerRejectsError(TrackerError):
    """The server rejects one request; a retry will fail too."""


class ExportFormatError(DashboardError):
    """The format of the output file is unknown."""

    exit_status = 2


class DiaryError(DashboardError):
    """A file is not a diary of the study, or its markers are broken; it is not overwritten."""

    exit_status = 2


class ComparisonError(DashboardError):
    """The trials to compare do not exist, or are not two to six."""

    exit_status = 2
