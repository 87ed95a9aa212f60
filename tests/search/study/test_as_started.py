from pathlib import Path
from typing import Any

import pytest

from canopy_search.search.config.settings import CanopyConfig, SearchSettings
from canopy_search.search.errors import SamplerError
from canopy_search.search.study.plan import SearchPlan, as_started
from tests.planned import planned

BEFORE = {"sampler": {"name": "random"}, "pruner": {"name": "asha", "reduction_factor": 3}}


def plan(**search: Any) -> SearchPlan:
    document = {"data": {"demo": "digits"}, "search": {"space": {"loss": ["bce"]}, **search}}
    config = CanopyConfig.model_validate(document)
    return planned(config, Path(), "planet", 40)


def record(**search: Any) -> dict[str, Any]:
    return {"config": {"search": {**BEFORE, **search}}}


def chosen(search: SearchSettings) -> dict[str, Any]:
    return {name: getattr(search, name).model_dump() for name in ("sampler", "pruner")}


def test_a_study_keeps_the_sampler_and_pruner_that_it_started_with() -> None:
    requested = plan()
    started = as_started(requested, record())
    assert chosen(started.config.search) == BEFORE
    assert started.config.data == requested.config.data
    assert as_started(requested, None) is requested


def test_what_the_configuration_names_is_used() -> None:
    """Also where it names what is the default."""
    default = SearchSettings()
    named = {"pruner": default.pruner.model_dump(), "sampler": default.sampler.model_dump()}
    assert chosen(as_started(plan(**named), record()).config.search) == named
    one = as_started(plan(pruner={"name": "median"}), record()).config.search
    assert chosen(one) == {"sampler": {"name": "random"}, "pruner": {"name": "median"}}


def test_what_does_not_exist_here_is_refused() -> None:
    with pytest.raises(SamplerError, match="hyperbend"):
        as_started(plan(), record(pruner={"name": "hyperbend"}))
