from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import parse_space
from canopy_search.search.study.preflight import largest_step
from canopy_search.training.data.dataset import DataFacts
from canopy_search.training.errors import SettingsError
from canopy_search.training.optimization.accumulation import smallest_batch


def check(train: int, batch_size: Any, backbone: str = "resnet18", image_px: int = 32) -> None:
    """Checks a search over these batch sizes before it starts."""
    config = CanopyConfig.model_validate(
        {
            "data": {"demo": "digits"},
            "training": {"backbone": backbone},
            "search": {"space": {"batch_size": batch_size}},
        }
    )
    largest_step(parse_space(config.search, config.training), facts(train, image_px))


def facts(train: int, image_px: int) -> DataFacts:
    return DataFacts(images=train + 2, labels=2, image_px=image_px, train=train)


@pytest.mark.parametrize(
    ("train", "batch_size"),
    [(5, [2, 8]), (1, [8]), (9, {"low": 1, "high": 4})],
)
def test_a_batch_of_one_image_is_refused_where_it_would_fail(train: int, batch_size: Any) -> None:
    with pytest.raises(SettingsError, match=r"^training.batch_size: .*resnet18.*32 px; "):
        check(train, batch_size)
    check(train, batch_size, image_px=64)
    check(train, batch_size, backbone="tinycnn_8")


@pytest.mark.parametrize(("train", "batch_size"), [(2, 1), (1, 8), (3, 2), (7, 2)])
def test_only_these_epochs_have_a_batch_of_one_image(train: int, batch_size: int) -> None:
    assert smallest_batch(train, batch_size) == 1


@given(st.integers(2, 10**6), st.integers(3, 10**4))
def test_no_other_epoch_has(train: int, batch_size: int) -> None:
    assert smallest_batch(train, batch_size) > 1
