"""What can be wrong with a place of files; each says where, what, and what to do."""


class FileStoreError(OSError):
    """Base of every error that `places` raises on purpose; a file that is not there has Python's.

    Attributes:
        exit_status: of the command line: 2 for a mistake of the caller, 1 for a failure.
    """

    exit_status = 1


class FileStoreUrlError(FileStoreError):
    """A URL names no kind of place that there is, lacks a package, or holds a secret."""

    exit_status = 2


class FileStoreRefusedError(FileStoreError):
    """There are no credentials, they are refused, or there is no such bucket."""

    exit_status = 2


class FileStoreUnavailableError(FileStoreError):
    """The place does not answer now; a later attempt may succeed."""
