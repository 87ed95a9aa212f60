"""Numbers that JSON can hold."""

import json


def check_finite(name: str, value: object) -> None:
    """Raises ValueError if `value`, which is called `name`, holds a NaN or an infinity."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"{name} holds a number that is NaN or infinite; give None instead"
        ) from error
