"""The settings that a study is told to try first, as its configuration lists them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FULL_KEY = "full"
"""Says in a list of parameters that the trial runs to its end under every pruner."""


@dataclass(frozen=True)
class EnqueuedSetting:
    """One setting to try first.

    Attributes:
        params: dotted name of a setting → value; what is left out is sampled.
        is_full: whether it runs to its end, whatever the pruner says.
    """

    params: dict[str, Any]
    is_full: bool


def enqueued_settings(rows: Sequence[Mapping[str, Any]] | None) -> list[EnqueuedSetting]:
    """Reads ``search.enqueue``; the first setting, the baseline, runs to its end by default.

    Args:
        rows: parameters, and ``full: true`` or ``full: false`` beside them.
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
    return next((each.params for each in enqueued_settings(rows)), {})
