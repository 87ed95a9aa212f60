"""Settings by their dotted names, and what differs between them."""

from collections.abc import Mapping, Sequence
from typing import Any


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by their dotted names."""
    flattened: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flattened |= flat(value, f"{prefix}{key}.")
        else:
            flattened[f"{prefix}{key}"] = value
    return flattened


def differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns the settings that are not the same for all.

    Args:
        settings: several, each by dotted names, as `flat` returns them.

    Returns:
        Dotted name → a value for each, None where there is none.
    """
    found = {}
    for name in dict.fromkeys(name for each in settings for name in each):
        values = [each.get(name) for each in settings]
        if any(value != values[0] for value in values):
            found[name] = values
    return found
