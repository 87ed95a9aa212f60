"""Errors about data, settings and training runs."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_MOST_SHOWN = 80
"""Characters of a quoted value, so that a message stays one readable line."""


class TrainingError(Exception):
    """Base of every error that `training` raises on purpose.

    Attributes:
        exit_status: of the command line: 2 for a mistake by the caller, 1 for a failure.
    """

    exit_status = 2


class LabelFileError(TrainingError):
    """The label file is missing, malformed or empty."""


class ImageError(TrainingError):
    """Images are missing or cannot be decoded."""


class DamagedImageError(ImageError):
    """One image file cannot be decoded.

    Attributes:
        kind: ``empty``, ``truncated``, ``damaged``, ``no image``, ``unsupported``, ``too large``,
            ``unclear bands``, ``other bands`` or ``other bit depth``.
        detail: the decoder's message, or the remedy.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class SplitError(TrainingError):
    """The data cannot be split as requested."""


class UnknownNameError(TrainingError):
    """There is no backbone, loss, optimizer or similar with that name."""


class SettingsError(TrainingError):
    """Settings that are valid one by one do not fit together, the machine or the data."""


class ExportError(TrainingError):
    """A model cannot be written in another format, or computes something else there."""


class DiskFullError(TrainingError):
    """The disk has too little free space for a run."""

    exit_status = 1


class DivergedError(TrainingError):
    """The loss or the logits are no longer finite."""

    exit_status = 1


class OutOfMemoryError(TrainingError):
    """The device or the host ran out of memory.

    Attributes:
        facts: the message without its remedy.
        epoch: the epoch that could not be trained, counted from 1; otherwise the latest epoch.
        made_room: whether the images cached in the device's memory were freed since, so that the
            same epoch may now fit.
        cut_helps: whether smaller micro-batches may fit, because a training step did not.
    """

    exit_status = 1

    def __init__(
        self,
        facts: str,
        remedy: str,
        *,
        epoch: int,
        made_room: bool = False,
        cut_helps: bool = False,
    ) -> None:
        super().__init__(f"{facts}; {remedy}")
        self.facts = facts
        self.epoch = epoch
        self.made_room = made_room
        self.cut_helps = cut_helps


class CheckpointError(TrainingError):
    """A checkpoint or model file is missing, damaged or not written by Canopy."""

    exit_status = 1


def unknown_name_message(kind: str, name: str, known: Iterable[str]) -> str:
    """Returns a message that `name` is unknown, with the closest known name.

    Args:
        kind: what the name is for, such as ``backbone``.
        name: the requested name.
        known: all names that exist.
    """
    return f"unknown {kind} {name!r}; {nearest_hint(name, sorted(known))}"


def nearest_hint(name: str, known: Sequence[str]) -> str:
    """Returns ``did you mean …?``, or the known names if none is close."""
    nearest = get_close_matches(name, known, n=1) if len(name) <= _MOST_SHOWN else []
    if nearest:
        return f"did you mean {shown(nearest[0])}?"
    return f"available: {listed(known, 100)}" if known else "there are none"


def shown(value: object) -> str:
    """Returns the beginning of a value in quotes, for a message about a user's file."""
    text = repr(value[: _MOST_SHOWN + 1] if isinstance(value, str | bytes | list) else value)
    return text if len(text) <= _MOST_SHOWN + 2 else f"{text[:_MOST_SHOWN]}…"


def listed(names: Sequence[str], most: int = 10, separator: str = ", ") -> str:
    """Returns the first names, each cut to a readable length, and how many there are in all."""
    cut = [name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}…" for name in names[:most]]
    more = f"{separator}… ({len(names):,} in all)" if len(names) > most else ""
    return separator.join(cut) + more
