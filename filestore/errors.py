"""Errors of file stores; each message says where, what is wrong, and what to do."""


class FileStoreError(OSError):
    """Base of every error that `filestore` raises; a missing file raises FileNotFoundError.

    Attributes:
        exit_status: of the command line: 2 for a mistake of the caller, 1 for a failure.
    """

    exit_status = 1


class FileStoreUrlError(FileStoreError):
    """A URL has an unknown scheme, needs a package that is missing, or contains a secret."""

    exit_status = 2


class FileStoreRefusedError(FileStoreError):
    """There are no credentials, they are rejected, or there is no such bucket."""

    exit_status = 2


class FileStoreUnavailableError(FileStoreError):
    """The file store is unavailable for now; a later attempt may succeed."""
