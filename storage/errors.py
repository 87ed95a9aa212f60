"""What can be wrong with the database and what is kept in it."""


class StorageError(Exception):
    """Base of every error that `storage` raises on purpose.

    Attributes:
        exit_status: what the command line ends with: 2 for a mistake of the caller, 1 for a
            failure.
    """

    exit_status = 1


class DatabaseUrlError(StorageError):
    """The URL is not one of a Postgres server."""

    exit_status = 2


class DatabaseUnreachableError(StorageError):
    """The server does not answer, or refuses us."""


class DatabaseVersionError(StorageError):
    """The server is older than we need."""


class DatabaseReadOnlyError(StorageError):
    """The server only reads: a standby, or set so."""


class EmbeddedPostgresError(StorageError):
    """The embedded Postgres cannot be started or stopped."""


class UnknownStudyError(StorageError):
    """There is no study of that name."""

    exit_status = 2


class DatabaseUnavailableError(StorageError):
    """The database has been away for longer than somebody wants to wait."""


class LeaseLostError(StorageError):
    """A trial is another worker's by now, or somebody ended it; nothing more is written to it."""


class StudyGoneError(StorageError):
    """The study was deleted while it was searched."""


class DatabaseSchemaError(StorageError):
    """The tables are those of a newer Canopy, or cannot be made."""


class StudyDirectionError(StorageError):
    """A study of that name exists and is not one that maximises a single value."""

    exit_status = 2


class NoDatabaseError(StorageError):
    """Nothing was stored yet, so there is nothing to read."""

    exit_status = 2


class CheckpointPlaceError(StorageError):
    """Checkpoints cannot lie where they are said to."""

    exit_status = 2


class CheckpointMissError(StorageError):
    """A checkpoint that was recorded is missing or is not what was written; it is trained again."""


class CheckpointBudgetError(StorageError):
    """There is no room for a checkpoint below what is worth more."""
