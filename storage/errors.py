"""Errors of the database and of the data stored in it."""


class StorageError(Exception):
    """Base of every error that `storage` raises on purpose.

    Attributes:
        exit_status: of the command line: 2 for a mistake of the caller, 1 for a failure.
    """

    exit_status = 1


class DatabaseUrlError(StorageError):
    """The URL is not the URL of a Postgres server."""

    exit_status = 2


class DatabaseUnreachableError(StorageError):
    """The server does not answer, or refuses the connection."""


class DatabaseVersionError(StorageError):
    """The server is too old."""


class DatabaseReadOnlyError(StorageError):
    """The server is read-only: a standby, or configured so."""


class EmbeddedPostgresError(StorageError):
    """The embedded Postgres cannot be started or stopped."""


class UnknownStudyError(StorageError):
    """There is no study with that name."""

    exit_status = 2


class StudyExistsError(StorageError):
    """There is a study with that name already."""

    exit_status = 2


class StudyBusyError(StorageError):
    """Workers are searching the study."""


class StudyArchivedError(StorageError):
    """The study is archived, and is not changed."""

    exit_status = 2


class DatabaseUnavailableError(StorageError):
    """The database was unavailable for longer than the retry policy allows."""


class LeaseLostError(StorageError):
    """Another worker took the trial over, or the trial ended; nothing more is written to it."""


class StudyGoneError(StorageError):
    """The study was deleted during the search."""


class DatabaseSchemaError(StorageError):
    """A newer Canopy created the tables, or they cannot be created."""


class StudyDirectionError(StorageError):
    """A study with that name exists and does not maximise a single value."""

    exit_status = 2


class NoDatabaseError(StorageError):
    """Nothing is stored yet, so there is nothing to read."""

    exit_status = 2


class CheckpointPlaceError(StorageError):
    """Checkpoints cannot be stored at the configured location."""

    exit_status = 2


class CheckpointMissError(StorageError):
    """A recorded checkpoint is missing or corrupt; its epochs are trained again."""


class CheckpointBudgetError(StorageError):
    """There is no room for a checkpoint, because all others have a higher priority."""
