"""Checks that JSON can represent all numbers of a value."""

import json


def check_finite(name: str, value: object) -> None:
    """Raises ValueError, which mentions `name`, if `value` contains a NaN or an infinity."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"{name} contains a number that is NaN or infinite; use None instead"
        ) from error
