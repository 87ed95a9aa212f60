import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import RangeSettings, SearchSettings
from canopy_search.search.config.space import SearchSpace, parse_space, setting, with_params
from canopy_search.search.errors import SearchSpaceError
from canopy_search.training.settings import TrainingSettings

TRAINING = TrainingSettings()


def parse(space: object, enqueue: object = ()) -> SearchSpace:
    search = SearchSettings.model_validate({"space": space, "enqueue": enqueue})
    return parse_space(search, TRAINING)


def test_lists_and_ranges_become_distributions() -> None:
    space = parse(
        {
            "backbone": ["resnet18", "resnet50"],
            "gamma": {"low": 0.8, "high": 1, "step": 0.01},
            "batch_size": {"low": 16, "high": 64, "step": 16},
            "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        }
    )
    assert space.distributions == {
        "backbone": CategoricalDistribution(("resnet18", "resnet50")),
        "gamma": FloatDistribution(0.8, 1.0, step=0.01),
        "batch_size": IntDistribution(16, 64, step=16),
        "optimizer.lr": FloatDistribution(1e-4, 1e-2, log=True),
    }


def test_a_step_that_does_not_end_at_high_stops_below_it() -> None:
    gamma = parse({"gamma": {"low": 0.8, "high": 0.95, "step": 0.1}}).distributions["gamma"]
    assert gamma == FloatDistribution(0.8, 0.9, step=0.1)
    epochs = parse({"epochs": {"low": 1, "high": 8, "step": 2}}).distributions["epochs"]
    assert epochs == IntDistribution(1, 7, step=2)


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"gama": [1.0]}, "gama"),
        ({"optimizer.rate": [1.0]}, "optimizer.rate"),
        ({"optimizer": ["adam"]}, "optimizer"),
        ({"gamma": {"low": 0.9, "high": 0.8}}, "gamma"),
        ({"gamma": {"low": 0.9, "high": 1.0, "step": 0.5}}, "gamma"),
        ({"gamma": {"low": 0.9, "high": 1.2}}, "gamma"),
        (
            {"optimizer.weight_decay": {"low": 0.0, "high": 0.1, "log": True}},
            "optimizer.weight_decay",
        ),
        ({"optimizer.lr": {"low": 0.1, "high": 1.0, "log": True, "step": 0.1}}, "optimizer.lr"),
        ({"epochs": []}, "epochs"),
        ({"loss": ["bce", "bce"]}, "loss"),
        ({"epochs": {"low": 2, "high": 8, "step": 2.0}}, "epochs"),
        ({"threads": {"low": 1, "high": 4, "step": 0.5}}, "threads"),
        ({"optimizer.lr": {"low": 1 / 3, "high": 9.0, "step": 0.1}}, "optimizer.lr"),
        ({"epochs": ["many"]}, "epochs"),
        ({"gamma": [0.9, 1.0], "schedule.name": ["exponential", "cosine"]}, "gamma"),
        ({"epochs": [3, 8], "schedule.name": ["constant", "wsd"]}, "epochs"),
        ({"schedule.name": ["one_cycle"]}, "schedule.name"),
        ({"schedule": ["wsd"]}, "schedule"),
    ],
    ids=[
        "unknown",
        "unknown in a section",
        "a section",
        "low above high",
        "a large step",
        "out of range",
        "log from 0",
        "log and step",
        "no values",
        "a value twice",
        "a fraction of 2",
        "fractions",
        "many digits",
        "a word",
        "gamma beside cosine",
        "a longer decay than the run",
        "a cycle without a warm-up",
        "a section of schedules",
    ],
)
def test_an_impossible_space_is_named(space: object, named: str, words: SnapshotAssertion) -> None:
    with pytest.raises(SearchSpaceError) as caught:
        parse(space)
    assert f"search.space.{named}: " in str(caught.value)
    assert str(caught.value) == words


def test_settings_fit_by_their_values_in_the_space() -> None:
    found = parse({"schedule.name": ["one_cycle", "wsd"], "schedule.warmup_epochs": [1.0, 2.0]})
    assert list(found.distributions) == ["schedule.name", "schedule.warmup_epochs"]


@pytest.mark.parametrize(
    "params",
    [{"loss": "focal"}, {"gamma": 0.855}, {"gamma": True}, {"seed": 1}],
    ids=["another value", "between steps", "no number", "not searched"],
)
def test_an_enqueued_setting_must_lie_in_the_space(
    params: dict[str, object], words: SnapshotAssertion
) -> None:
    space = {"loss": ["bce"], "gamma": {"low": 0.8, "high": 1.0, "step": 0.01}}
    with pytest.raises(SearchSpaceError) as caught:
        parse(space, [params])
    assert f"search.enqueue[0].{next(iter(params))}: " in str(caught.value)
    assert str(caught.value) == words


@given(
    low=st.integers(0, 80), steps=st.integers(1, 20), step=st.integers(1, 9), k=st.integers(0, 20)
)
def test_what_optuna_samples_is_what_a_person_would_have_enqueued(
    low: int, steps: int, step: int, k: int
) -> None:
    low_, step_ = (low + 1) / 100, step / 1000
    high = round(low_ + steps * step_, 3)
    space = parse({"optimizer.lr": {"low": low_, "high": high, "step": step_}})
    k = min(k, steps)
    sampled = space.canonical({"optimizer.lr": low_ + k * step_})["optimizer.lr"]
    typed = round(low_ + k * step_, 3)
    assert sampled == typed
    space.check_enqueued({"optimizer.lr": typed})


def test_params_reach_the_run_s_settings_by_dotted_name() -> None:
    settings = with_params(TRAINING, {"optimizer.lr": 0.5, "backbone": "resnet50"})
    assert setting(settings, "optimizer.lr") == 0.5
    assert settings.backbone == "resnet50"
    assert settings.optimizer.name == TRAINING.optimizer.name


def test_a_trial_that_was_asked_before_keeps_its_values() -> None:
    space = parse({"gamma": {"low": 0.8, "high": 1.0, "step": 0.01}, "loss": ["bce", "focal"]})
    study = optuna.create_study()
    trial = study.ask()
    first = space.suggest(trial)
    again = optuna.trial.Trial(study, trial._trial_id)
    assert space.suggest(again) == first


def test_a_range_reads_as_a_range() -> None:
    assert RangeSettings.model_validate({"low": 1, "high": 2}).step is None
