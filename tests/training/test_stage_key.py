import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from canopy_search.training import stage_key
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.images.conversion import WHITE, Conversion
from canopy_search.training.data.splits import Split
from canopy_search.training.optimization.accumulation import Accumulation
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings
from canopy_search.training.stage_key import next_key, root_key, stage_keys
from tests.noise_data import noise_dataset

RESOLVED = {"device": "cpu", "precision": "fp32", "threads": 2, "compile": "off"}


def settings(**values: Any) -> TrainingSettings:
    defaults = RESOLVED | {"epochs": 4, "gamma": 0.9}
    return TrainingSettings.model_validate(defaults | values)


def dataset() -> Dataset:
    return noise_dataset(train=8, validation=3, test=1)


def keys(**values: Any) -> list[str]:
    return stage_keys(settings(**values), dataset())


def test_a_key_for_each_epoch_chained_by_its_learning_rate() -> None:
    found = keys(gamma=0.5, optimizer={"lr": 0.25})

    assert len(set(found)) == 4
    assert found[0] == next_key(root_key(settings(), dataset()), (0.25).hex())
    assert found[3] == next_key(found[2], (0.25 / 8).hex())
    assert all(len(key) == 64 for key in found)


RECORDED_ROOT = "02c3439e46bb525ee1519da42e3b923d462cc23210ac0cbf4690d59c55b2e484"


def test_settings_of_release_0_2_keep_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer setting must not enter the key at its default: stored stages would be lost."""
    monkeypatch.setattr(torch, "__version__", "T")
    monkeypatch.setattr(torchvision, "__version__", "V")
    assert root_key(settings(), dataset()) == RECORDED_ROOT


def test_a_weights_file_enters_the_key_by_its_bytes(tmp_path: Path) -> None:
    for name, content in {"a.pth": b"1", "b.pth": b"1", "c.pth": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    same, too, other = (keys(weights=str(tmp_path / f"{name}.pth")) for name in "abc")
    assert same == too
    assert not set(same) & (set(other) | set(keys()) | set(keys(weights="imagenet")))


def test_only_networks_of_timm_depend_on_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(), keys(backbone="timm/test_resnet")
    monkeypatch.setattr(stage_key, "version", lambda _package: "0")
    assert keys() == before[0]
    assert not set(keys(backbone="timm/test_resnet")) & set(before[1])


def test_runs_share_their_keys_until_their_learning_rates_differ() -> None:
    one, other = keys(gamma=0.9), keys(gamma=0.8)

    assert one[0] == other[0]
    assert not set(one[1:]) & set(other[1:])
    assert keys(epochs=2) == one[:2]


def test_only_a_label_of_every_validation_image_changes_the_key_of_its_data() -> None:
    always = dataset()
    always.targets[always.split.validation, 0] = 1
    test_only = dataset()
    test_only.targets[test_only.split.test, 0] = 1

    # Its AP of 1 was part of the mean before.
    assert stage_key._left_out_of_ap(always)
    assert not stage_key._left_out_of_ap(test_only)
    assert root_key(settings(), dataset()) == root_key(settings(), test_only)


def test_accumulation_is_a_branch_from_its_epoch_on() -> None:
    whole = keys()
    cut = stage_keys(settings(), dataset(), [Accumulation(2, 2), Accumulation(4, 4)])
    again = stage_keys(settings(), dataset(), [Accumulation(2, 2)])

    assert cut[0] == whole[0]
    assert not set(cut[1:]) & set(whole)
    assert (cut[:3], cut[3] == again[3]) == (again[:3], False)
    assert cut[1] == next_key(whole[0], (0.001 * 0.9).hex(), 2)


def test_a_batch_in_one_part_has_the_key_that_it_always_had() -> None:
    half = (0.5).hex()
    assert next_key("a", half) == next_key("a", half, 1) == RECORDED
    assert stage_keys(settings(), dataset(), [Accumulation(1, 1)]) == keys()


RECORDED = "33d941e9df46e87461305f294be695a2e866a5c46bb33afc949430a8c5b5a386"


RELEASED = {
    "{}": "0063ac59fc6243ad20d0aa12fd4ddad42fb0fd038a7208f2d6dd0bbe59b78eec",
    '{"loss": "focal", "optimizer": {"name": "sgd", "weight_decay": 0.1}, "clip_norm": 1.0}': (
        "ed683e9a6cb4ca3d9168312cac9056609105180ccfcbf954bf396423cde10384"
    ),
}
"""Settings → key of the last epoch, before there were schedules."""


@pytest.mark.parametrize("values", RELEASED, ids=str)
def test_stages_of_earlier_releases_keep_their_keys(
    values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.0")
    monkeypatch.setattr(torchvision, "__version__", "0.24.0")

    assert keys(**json.loads(values))[-1] == RELEASED[values]


@pytest.mark.parametrize(
    "values",
    [
        {"backbone": "tinycnn_8"},
        {"weights": "imagenet"},
        {"loss": "weighted_bce"},
        {"optimizer": {"name": "adamw"}},
        {"optimizer": {"lr": 0.002}},
        {"optimizer": {"weight_decay": 0.01}},
        {"clip_norm": 1.0},
        {"batch_size": 32},
        {"seed": 1},
        {"precision": "bf16"},
        {"device": "mps"},
        {"threads": 1},
        {"deterministic": True},
        {"compile": "on"},
        {"ema": 0.5},
        {"head_lr_factor": 2.0},
        {"head_bias": "priors"},
        {"layer_decay": 0.5},
        {"freeze_epochs": 1},
    ],
    ids=str,
)
def test_a_setting_that_changes_the_numbers_changes_every_key(values: dict[str, Any]) -> None:
    assert not set(keys()) & set(keys(**values))


@pytest.mark.parametrize(
    ("common", "values"),
    [
        ({"loss": "focal"}, {"focal": {"gamma": 3.0}}),
        ({"loss": "focal_bce"}, {"focal": {"alpha": 0.5}}),
        ({"loss": "asymmetric"}, {"asymmetric": {"clip": 0.0}}),
        ({}, {"optimizer": {"name": "sgd", "momentum": 0.5}}),
        (
            {"optimizer": {"name": "sgd", "weight_decay": 0.1}},
            {
                "optimizer": {
                    "name": "sgd",
                    "weight_decay": 0.1,
                    "decay_norms_and_biases": False,
                }
            },
        ),
    ],
    ids=str,
)
def test_parameters_count_where_they_are_read(
    common: dict[str, Any], values: dict[str, Any]
) -> None:
    base = {"optimizer": {"name": "sgd"}} if "optimizer" in values else {}

    assert not set(keys(**base | common)) & set(keys(**common | values))


@pytest.mark.parametrize(
    ("common", "values"),
    [
        ({"loss": "bce"}, {"focal": {"gamma": 3.0}, "asymmetric": {"clip": 0.0}}),
        ({"loss": "focal"}, {"asymmetric": {"clip": 0.0}}),
        ({}, {"optimizer": {"momentum": 0.5}}),
        ({"device": "cuda:0"}, {"device": "cuda:1"}),
        ({"device": "cuda:0"}, {"device": "cuda:0", "threads": 16}),
        ({}, {"device_cache": "on"}),
        ({}, {"optimizer": {"decay_norms_and_biases": False}}),
        ({}, {"schedule": {"final_factor": 0.5, "decay_epochs": 1.0}}),
        ({"gamma": 1.0}, {"schedule": {"name": "constant"}}),
        ({"gamma": 1.0}, {"schedule": {"name": "wsd", "decay_epochs": 0.0}}),
        ({"freeze_epochs": 4}, {"layer_decay": 0.5}),
        ({"freeze_epochs": 4}, {"freeze_epochs": 5}),
        ({}, {"gradient_checkpointing": True}),
    ],
    ids=str,
)
def test_what_changes_no_number_changes_no_key(
    common: dict[str, Any], values: dict[str, Any]
) -> None:
    assert keys(**common) == keys(**common | values)


def test_a_graph_is_no_plain_program() -> None:
    assert not set(keys(device="cuda", compile="graphs")) & set(keys(device="cuda", compile="on"))


def swapped(data: Dataset) -> Dataset:
    targets = data.targets.copy()
    targets[[0, 1]] = targets[[1, 0]]
    return replace(data, targets=targets)


CHANGES: dict[str, Callable[[Dataset], Dataset]] = {
    "an image to train on": lambda d: replace(d, digests=("a" * 64, *d.digests[1:])),
    "an image to validate on": lambda d: replace(
        d, digests=(*d.digests[:9], "a" * 64, *d.digests[10:])
    ),
    "labels": swapped,
    "names of labels": lambda d: replace(d, labels=("clear", "river")),
    "split": lambda d: replace(d, split=Split(np.arange(7), np.arange(7, 11), d.split.test)),
    "image size": lambda d: replace(d, image_px=32),
    "augmentation": lambda d: replace(d, augment=()),
    "bands": lambda d: replace(d, conversion=Conversion(bands=(3, 2, 1))),
    "range": lambda d: replace(d, conversion=Conversion(range=(0, 4095))),
    "background": lambda d: replace(d, conversion=Conversion(background=WHITE)),
}
NO_CHANGES: dict[str, Callable[[Dataset], Dataset]] = {
    "an image to test on": lambda d: replace(d, digests=(*d.digests[:11], "a" * 64)),
    "names of images": lambda d: replace(d, image_names=tuple("abcdefghijkl")),
    "the whole set's fingerprint": lambda d: replace(d, fingerprint="0" * 64),
    "warnings": lambda d: replace(d, warnings=("odd",)),
    "the order of augmentations": lambda d: replace(d, augment=tuple(reversed(d.augment))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_change_the_numbers_change_the_key(change: str) -> None:
    assert root_key(settings(), CHANGES[change](dataset())) != root_key(settings(), dataset())


@pytest.mark.parametrize("change", NO_CHANGES)
def test_data_that_change_no_number_change_no_key(change: str) -> None:
    assert root_key(settings(), NO_CHANGES[change](dataset())) == root_key(settings(), dataset())


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (stage_key, "ENGINE_REVISION", -1),
        (stage_key, "DECODING_RULE", "another"),
        (torch, "__version__", "0"),
        (torchvision, "__version__", "0"),
    ],
)
def test_engine_decoding_and_versions_change_the_key(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any
) -> None:
    before = root_key(settings(), dataset())
    monkeypatch.setattr(module, name, value)
    assert root_key(settings(), dataset()) != before


def test_the_folder_and_the_host_are_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = keys()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOSTNAME", "elsewhere")
    assert keys() == before


@pytest.mark.parametrize("name", RESOLVED)
def test_auto_has_no_key(name: str) -> None:
    with pytest.raises(ValueError, match=rf"training\.{name} is auto"):
        keys(**{name: "auto"})


GOLDEN = {
    "bce": [0.69586045, 0.67996782, 0.68494707, 0.66099769],
    "focal_bce": [0.81117928, 0.76752704, 0.76355267, 0.73467630],
}
"""Training loss and validation loss of two epochs, of engine revision 2."""


@pytest.mark.parametrize("loss", GOLDEN)
def test_the_engine_gives_the_numbers_of_its_revision(loss: str, one_thread: None) -> None:
    """Raise `ENGINE_REVISION` and record the new numbers if a change of the numerics is meant."""
    run = TrainingRun.of(
        settings(
            backbone="tinycnn_8",
            loss=loss,
            epochs=2,
            batch_size=4,
            threads=1,
            clip_norm=5.0,
            optimizer={"name": "sgd", "lr": 0.05, "weight_decay": 0.01},
        ),
        dataset(),
    )

    losses = []
    for _ in range(2):
        metrics = run.train_epoch()
        losses += [metrics.train_loss, metrics.validation.loss]

    assert stage_key.ENGINE_REVISION == 2
    # Processors with other registers differ by some 1e-7 here, another seed by 1e-2.
    assert losses == pytest.approx(GOLDEN[loss], rel=1e-5)
