"""Errors of a configuration and a search."""


class SearchError(Exception):
    """Base of every error that `search` raises on purpose.

    Attributes:
        exit_status: exit status of the command: 2 for a mistake of the caller, 1 for a failure.
    """

    exit_status = 2


class ConfigError(SearchError):
    """A configuration file is missing, is not YAML, or has a wrong key or value."""


class SearchSpaceError(SearchError):
    """The search space or an enqueued setting cannot be used."""


class SamplerError(SearchError):
    """A sampler or pruner does not exist, or does not accept its parameters."""


class StudyDiffersError(SearchError):
    """A study with that name exists with other data or other fixed settings."""


class NothingFoundError(SearchError):
    """The study has no finished trial yet."""

    exit_status = 1


class PredictionError(SearchError):
    """There is no image to predict, or the predictions cannot be written."""


class SearchFailedError(SearchError):
    """The search ended before it finished its trials."""

    exit_status = 1


class UnfitMachineError(SearchFailedError):
    """A machine lacks something the study needs, or its workers died repeatedly."""


class SickWorkerError(SearchError):
    """Trials fail on this worker again and again, while other workers are healthy."""

    exit_status = 1


class AcceleratorFailedError(SearchError):
    """This process can no longer use its accelerator.

    Attributes:
        trial_number: of the trial that was running, and is released.
    """

    exit_status = 1

    def __init__(self, reason: str, trial_number: int) -> None:
        super().__init__(
            f"the accelerator failed ({reason}); this worker ends, and another one resumes trial "
            f"{trial_number}"
        )
        self.trial_number = trial_number


class PlacementError(SearchError):
    """Workers cannot be placed as requested: a backend is missing or lacks something."""


class StudyPausedError(SearchError):
    """The user paused the study, and so this worker."""

    exit_status = 1


class TrialEndedError(SearchError):
    """A trial is stopped whatever its score: it takes too long, or the user stopped the study."""

    exit_status = 1


class StageBusyError(SearchError):
    """Another worker is training the next epoch of this run."""

    exit_status = 1


class PromotionError(SearchError):
    """A trial has nothing left to train, or cannot continue."""


class ConfirmationError(SearchError):
    """A study has nothing to confirm, or fewer finalists than requested."""


class CurveTableError(SearchError):
    """A table of learning curves is missing or invalid, or lacks a point of the space."""


class MirrorError(SearchError):
    """A study cannot be mirrored, or only part of it."""

    exit_status = 1


class TrialFilterError(SearchError):
    """A filter of trials names a state, parameter or value that does not exist."""
