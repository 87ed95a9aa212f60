"""Which epochs trials share that differ in one setting alone, by their stage keys."""

from itertools import combinations
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.config.space import SearchSpace
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.stage_key import stage_keys


def shared_epochs(space: SearchSpace, dataset: Dataset) -> dict[str, str]:
    """Returns for each searched setting what two trials share that differ in it alone.

    That is ``nothing``, ``a trunk`` of the first epochs or ``everything``, the whole of the shorter
    run; several of them where it depends on other searched settings. Each setting is compared at
    the first value of all others, and at each value of another one.

    Args:
        space: the search space.
        dataset: images of the data.
    """
    values = {name: _values(domain) for name, domain in space.distributions.items()}
    first = {name: domain[0] for name, domain in values.items()}
    points = [first, *({**first, name: each} for name in values for each in values[name][1:])]
    keys: dict[tuple[Any, ...], list[str]] = {}

    def keys_of(params: dict[str, Any]) -> list[str]:
        point = tuple(params.values())
        if point not in keys:
            keys[point] = stage_keys(resolve_settings(space.training_settings(params)), dataset)
        return keys[point]

    shared: dict[str, str] = {}
    for name, domain in values.items():
        found = {
            _common(*(keys_of({**point, name: value}) for value in pair))
            for point in points
            if point[name] == first[name]
            for pair in combinations(domain, 2)
        }
        shared[name] = " or ".join(map(_text, sorted(found))) or "everything"
    return shared


def _values(domain: BaseDistribution) -> list[Any]:
    if isinstance(domain, CategoricalDistribution):
        return list(domain.choices)
    if not isinstance(domain, IntDistribution | FloatDistribution):
        raise TypeError(f"expected a range of ints or floats, found {domain}")
    return list(dict.fromkeys([domain.low, domain.high]))


def _common(one: list[str], other: list[str]) -> tuple[bool, int]:
    """Returns whether two runs share the whole of the shorter one, and else how many epochs."""
    number = next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) == 2),
        None,
    )
    return number is None, number or 0


def _text(common: tuple[bool, int]) -> str:
    is_whole, number = common
    if is_whole:
        return "everything"
    return f"a trunk of {counted(number, 'epoch')}" if number else "nothing"
