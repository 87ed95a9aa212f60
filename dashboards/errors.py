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
