"""The settings that a study tries first, from its configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FULL_KEY = "full"
"""Key next to the parameters; if true, the trial is fully trained under every pruner."""


@dataclass(frozen=True)
class EnqueuedSetting:
    """One setting to try first.

    Attributes:
        params: dotted name of a setting → value; missing ones are sampled.
        is_full: whether it is fully trained, whatever the pruner decides.
    """

    params: dict[str, Any]
    is_full: bool


def enqueued_settings(rows: Sequence[Mapping[str, Any]] | None) -> list[EnqueuedSetting]:
    """Reads ``search.enqueue``; the first setting, the baseline, is fully trained by default.

    Args:
        rows: parameters, and ``full: true`` or ``full: false`` next to them.
    """
    return [
        EnqueuedSetting(
            {name: value for name, value in row.items() if name != FULL_KEY},
            bool(row.get(FULL_KEY, index == 0)),
        )
        for index, row in enumerate(rows or ())
    ]


def baseline_params(rows: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Returns the parameters of the first setting of ``search.enqueue``; none if it is empty.

    Args:
        rows: as `enqueued_settings` reads them.
    """
    return next((setting.params for setting in enqueued_settings(rows)), {})
