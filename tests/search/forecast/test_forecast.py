from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import parse_space
from canopy_search.search.errors import SearchError
from canopy_search.search.forecast.forecast import between, runs_to_measure, slots_and_workers
from canopy_search.search.forecast.speed import Network, NetworkSpeed

BASE = {"data": {"demo": "digits"}, "training": {"threads": 1, "device": "cpu"}}


def config(space: dict[str, Any], **training: Any) -> CanopyConfig:
    search = {"study": "planned", "space": space}
    document = {**BASE, "training": BASE["training"] | training, "search": search}
    return CanopyConfig.model_validate(document)


def measured(space: dict[str, Any], **training: Any) -> list[Network]:
    wanted = config(space, **training)
    return list(runs_to_measure(parse_space(wanted.search, wanted.training)))


def test_every_backbone_is_measured_at_the_ends_of_its_batch_sizes() -> None:
    assert measured({"gamma": {"low": 0.8, "high": 1.0}}) == [Network("resnet18", 64)]
    assert measured({"backbone": ["tinycnn_8", "tinycnn_16"], "batch_size": [32, 128, 64]}) == [
        Network("tinycnn_8", 32),
        Network("tinycnn_8", 128),
        Network("tinycnn_16", 32),
        Network("tinycnn_16", 128),
    ]
    ranged = measured({"batch_size": {"low": 16, "high": 48, "step": 16}}, backbone="tinycnn_8")
    assert ranged == [Network("tinycnn_8", 16), Network("tinycnn_8", 48)]


def test_what_else_is_searched_has_its_first_choice() -> None:
    space = {"optimizer.name": ["sgd", "adam"], "optimizer.lr": {"low": 0.1, "high": 0.2}}
    wanted = config(space, backbone="tinycnn_8")
    (run,) = runs_to_measure(parse_space(wanted.search, wanted.training)).values()
    assert (run.optimizer.name, run.optimizer.lr) == ("sgd", 0.2)
    assert run.precision != "auto"


def test_between_batch_sizes_an_epoch_has_a_part_for_each_image_and_one_for_each_batch() -> None:
    def epoch_s(batch_size: int) -> float:
        return 3.0 + 100.0 / batch_size

    speeds = {
        Network("net", size): [NetworkSpeed((epoch_s(size),), 0.0, 0, 0.0)] for size in (16, 128)
    }
    for size in (16, 24, 64, 128):
        found = between(speeds, Network("net", size), lambda measured: measured[0].epoch_s[0])
        assert found == pytest.approx(epoch_s(size))


def test_workers_are_those_that_a_search_would_have(words: SnapshotAssertion) -> None:
    wanted = config({"gamma": [0.9, 1.0]})
    slots, workers = slots_and_workers(wanted, 3, None)
    assert (len(slots), workers) == (3, 3)
    with pytest.raises(SearchError, match="--gpus") as error:
        slots_and_workers(wanted, "auto", 4)
    assert str(error.value) == words


def test_gpus_are_as_many_as_somebody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    wanted = config({"gamma": [0.9, 1.0]}, device="cuda")
    shared = wanted.search.model_copy(update={"slots_per_gpu": 2})
    slots, workers = slots_and_workers(wanted.model_copy(update={"search": shared}), "auto", 4)
    assert [slot.name for slot in slots] == ["cuda:0", "cuda:0"]
    assert workers == 8
