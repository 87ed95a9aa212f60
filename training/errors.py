"""What can be wrong with data, settings and training runs."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class TrainingError(Exception):
    """Base of every error that `training` raises on purpose.

    Attributes:
        exit_status: of the command line: 2 for a mistake of the caller, 1 for a failure.
    """

    exit_status = 2


class LabelFileError(TrainingError):
    """The label file is missing, malformed or empty."""


class ImageError(TrainingError):
    """Images are missing or cannot be decoded."""


class SplitError(TrainingError):
    """The data cannot be split as asked."""


class UnknownNameError(TrainingError):
    """A backbone, loss, optimizer or the like of that name does not exist."""


class SettingsError(TrainingError):
    """Settings that are right one by one do not fit together, the machine or the data."""


class DiskFullError(TrainingError):
    """The disk has no room for what a run needs."""

    exit_status = 1


class DivergedError(TrainingError):
    """The loss or the logits are not finite any more."""

    exit_status = 1


class OutOfMemoryError(TrainingError):
    """The device or the host has no memory for an epoch.

    Attributes:
        facts: the message without its remedy.
        epoch: that could not be trained or validated, counted from 1.
        made_room: whether the images have left the device's memory since, so that the same epoch
            may fit.
    """

    exit_status = 1

    def __init__(self, facts: str, remedy: str, *, epoch: int, made_room: bool = False) -> None:
        super().__init__(f"{facts}; {remedy}")
        self.facts = facts
        self.epoch = epoch
        self.made_room = made_room


class CheckpointError(TrainingError):
    """A checkpoint or model file is missing, damaged or not one of ours."""

    exit_status = 1


def unknown_name_message(kind: str, name: str, known: Iterable[str]) -> str:
    """Says that `name` is not known and which known name is nearest.

    Args:
        kind: what the name is for, such as ``backbone``.
        name: the name that was asked for.
        known: all names that exist.
    """
    return f"unknown {kind} {name!r}; {nearest_hint(name, sorted(known))}"


def nearest_hint(name: str, known: Sequence[str]) -> str:
    """Returns ``did you mean …?``, or all known names where none is near."""
    nearest = get_close_matches(name, known, n=1)
    if nearest:
        return f"did you mean {nearest[0]!r}?"
    return f"known are {', '.join(known)}" if known else "there are none"
