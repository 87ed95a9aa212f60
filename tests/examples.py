"""How many examples a property is tried with, and which ones are always among them."""

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import example, settings

Test = Callable[..., Any]


def examples(few: int = 30, **options: Any) -> settings:
    """Returns settings with a few fixed examples, or with as many as `make test-all` tries.

    Args:
        few: how many in `make test`, for examples that take longer than a moment.
        options: further ones of Hypothesis.
    """
    if settings.get_current_profile_name() == "quick":
        options["max_examples"] = few
    return settings(**options)


def pinned(name: str, values: Iterable[Any], **others: Any) -> Callable[[Test], Test]:
    """Returns a decorator that tries these values of an argument first, in every run.

    Args:
        name: of the argument.
        values: one an example.
        others: the test's other arguments from Hypothesis, the same in each example.
    """

    def decorate(test: Test) -> Test:
        for value in reversed(list(values)):
            test = example(**{name: value}, **others)(test)
        return test

    return decorate
