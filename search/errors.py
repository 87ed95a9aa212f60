"""What can be wrong with a configuration and a search."""


class SearchError(Exception):
    """Base of every error that `search` raises on purpose.

    Attributes:
        exit_status: of the command line: 2 for a mistake of the caller, 1 for a failure.
    """

    exit_status = 2


class ConfigError(SearchError):
    """A configuration file is missing, is not YAML, or has a key or value that is wrong."""


class SearchSpaceError(SearchError):
    """The search space or an enqueued setting cannot be used."""


class SamplerError(SearchError):
    """A sampler or pruner does not exist, or does not take its parameters."""


class StudyDiffersError(SearchError):
    """A study of that name exists with other data or other fixed settings."""


class NothingFoundError(SearchError):
    """There is no finished trial to answer with."""

    exit_status = 1


class PredictionError(SearchError):
    """There is no image to predict, or no way to write what is predicted."""


class SearchFailedError(SearchError):
    """The search ended before it had its trials."""

    exit_status = 1


class UnfitMachineError(SearchFailedError):
    """A machine lacks what work on the study needs, or its workers die again and again."""


class PlacementError(SearchError):
    """Workers cannot be placed where they are said to: an engine is missing or lacks something."""


class StudyPausedError(SearchError):
    """A person pauses the study, and so this worker."""

    exit_status = 1


class TrialEndedError(SearchError):
    """A trial is ended that is not hopeless: it takes too long, or a person stops the study."""

    exit_status = 1


class StageBusyError(SearchError):
    """Another worker trains the epoch that this one would train next."""

    exit_status = 1


class PromotionError(SearchError):
    """A trial has nothing left to train, or cannot go on."""


class ConfirmationError(SearchError):
    """A study has nothing to confirm, or not as much as is asked for."""


class CurveTableError(SearchError):
    """A table of learning curves is missing, something else, or does not hold a point."""


class MirrorError(SearchError):
    """A study cannot be mirrored, or not all of it."""

    exit_status = 1


class TrialFilterError(SearchError):
    """Trials are asked for by a state, parameter or value that there is none of."""
