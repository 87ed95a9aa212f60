import json
import re
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import ConfigError
from canopy_search.search.study.configuration import DEMO_CONFIG, load_config, load_stages

GOOD = """
data: {labels: train_classes.csv, images: train-jpg}
search: {study: planet}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "canopy.yaml"
    path.write_text(text)
    return path


def message(folder: Path, text: str) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).replace(f"{path}", "canopy.yaml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD)).settings
    assert config.data.labels == tmp_path.resolve() / "train_classes.csv"
    assert config.data.images == tmp_path.resolve() / "train-jpg"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/ann")
    config = load_config(write(tmp_path, "data: {labels: ~/a.csv, images: ~/b}")).settings
    assert (config.data.labels, config.data.images) == (
        Path("/ann/a.csv"),
        Path("/ann/b"),
    )
    nobody = load_config(write(tmp_path, "data: {labels: ~nobody-here/a.csv, images: b}")).settings
    assert nobody.data.labels == tmp_path.resolve() / "~nobody-here" / "a.csv"


def test_defaults_are_the_missions(tmp_path: Path) -> None:
    search = load_config(write(tmp_path, GOOD)).settings.search
    assert list(search.space) == ["backbone", "loss", "gamma"]
    assert search.trials == 40


@pytest.mark.parametrize("name", ["constant", "cosine", "wsd"])
def test_beside_another_schedule_the_default_space_has_no_gamma(tmp_path: Path, name: str) -> None:
    text = f"{GOOD}training: {{schedule: {{name: {name}}}}}\n"
    configuration = load_config(write(tmp_path, text))
    assert list(configuration.settings.search.space) == ["backbone", "loss"]
    assert list(configuration.space.distributions) == ["backbone", "loss"]


def test_without_a_file_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None) == load_config(DEMO_CONFIG)
    write(tmp_path, GOOD)
    assert load_config(None).settings.search.study == "planet"


def test_the_design_document_s_example_is_read(tmp_path: Path) -> None:
    text = """
data:
  labels: train_classes.csv
  images: train-jpg
  image_px: 128
  split: {validation: 0.15, test: 0.15, seed: 0}
  augment: [hflip, vflip, rot90]
training:
  epochs: 8
  batch_size: 64
  backbone: resnet18
  weights: none
  loss: bce
  gamma: 1.0
  optimizer: {name: adam, lr: 0.001, weight_decay: 0.0}
  precision: auto
  device: auto
  seed: 0
search:
  study: planet
  trials: 40
  workers: auto
  sampler: {name: tpe}
  pruner: {name: median}
  space:
    backbone: [resnet18, resnet50, resnet152]
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.01}
    optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
  enqueue:
    - {backbone: resnet18, loss: bce, gamma: 1.0}
stages: {enabled: true, checkpoints: auto, budget_gib: auto}
clearml: {project: Planet}
"""
    config = load_config(write(tmp_path, text)).settings
    assert config.training.weights == "none"
    assert config.clearml is not None
    assert config.clearml.project == "Planet"


def pictures(setting: str) -> str:
    """A configuration with a setting of the images."""
    return GOOD.replace("data: {", f"data: {{{setting}, ")


def test_numbers_and_words_are_read_as_people_mean_them(tmp_path: Path) -> None:
    text = GOOD + "training: {optimizer: {lr: 1e-3}, loss: no}\n"
    training = load_config(write(tmp_path, text)).settings.training
    assert training.optimizer.lr == 0.001
    assert training.loss == "no"


def test_weights_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    text = GOOD + "training: {weights: nets/a.pth}\n"
    assert load_config(write(tmp_path, text)).space.training.weights == str(
        tmp_path / "nets" / "a.pth"
    )
    url = "s3://bucket/a.safetensors"
    text = GOOD.replace(
        "study: planet",
        f"space: {{weights: [none, imagenet, a.pth, '{url}']}}, enqueue: [{{weights: a.pth}}]",
    )
    found = load_config(write(tmp_path, text))
    [distribution] = found.space.distributions.values()
    expected = ["none", "imagenet", str(tmp_path / "a.pth"), url]
    assert list(getattr(distribution, "choices", ())) == expected
    assert found.settings.search.enqueued[0].params == {"weights": str(tmp_path / "a.pth")}


@pytest.mark.parametrize(
    "weights", ["imagnet", "None", "a.ckpt", "a\x1b.bin", "s3://key:secret@bucket/a.pth", "1.5"]
)
def test_what_is_no_weights_file_is_named(
    tmp_path: Path, weights: str, words: SnapshotAssertion
) -> None:
    text = GOOD + f"training: {{weights: {json.dumps(weights)}}}\n"
    assert message(tmp_path, text) == words


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GOOD + "trianing: {}\n", "trianing"),
        (GOOD + "training: {optimizer: {learning: 1}}\n", "training.optimizer.learning"),
        (GOOD + "training: {epochs: eight}\n", "training.epochs"),
        (GOOD + "training: {gamma: 1.5}\n", "training.gamma"),
        (
            GOOD.replace("study: planet", "space: {gamma: {lo: 0.8, high: 1.0}}"),
            "search.space.gamma.lo",
        ),
        ("data: {labels: a.csv}\n", "data"),
        ("search: {study: x}\n", "data"),
        ("- 1\n", "expected the sections"),
        (GOOD + "data: {}\n", "data"),
        (pictures("bands: [3, 2]"), "data.bands"),
        (pictures("bands: [0, 1, 2]"), "data.bands"),
        (pictures("range: [4095, 0]"), "data.range"),
        (pictures("range: [.nan, 1]"), "data.range"),
        (pictures("range: [false, 1]"), "data.range"),
        (pictures("background: pink"), "data.background"),
        (pictures("background: [0, 0, 256]"), "data.background"),
    ],
    ids=[
        "an unknown section",
        "an unknown key",
        "a word",
        "a number out of range",
        "another key",
        "no images",
        "no data",
        "a list",
        "a section twice",
        "two bands",
        "bands counted from 0",
        "white below black",
        "no number",
        "a truth value",
        "a colour without a meaning",
        "a level above 255",
    ],
)
def test_mistakes_are_named_with_file_key_and_remedy(
    tmp_path: Path, text: str, key: str, words: SnapshotAssertion
) -> None:
    said = message(tmp_path, text)
    assert re.search(rf"^canopy\.yaml(, line \d+)?: {re.escape(key)}\b", said, re.MULTILINE)
    assert said == words


@pytest.mark.parametrize("text", ["data: {\n", "data:\n\t- x\n"], ids=["open", "tab"])
def test_what_is_no_yaml_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    assert message(tmp_path, text).startswith("canopy.yaml, line 2: ")


def test_every_mistake_has_a_line(tmp_path: Path) -> None:
    lines = message(tmp_path, GOOD + "training: {epoch: 3, seeds: 1}\n").splitlines()
    assert len(lines) == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("others", ["", "data: 3\n", "search: {trials: x, pruner: 1}\nnone: 1\n"])
def test_stages_are_read_whatever_the_other_sections_say(tmp_path: Path, others: str) -> None:
    stages = load_stages(write(tmp_path, f"{others}stages: {{checkpoints: kept, budget_gib: 2}}"))
    assert (stages.checkpoints, stages.budget_gib) == (str(tmp_path.resolve() / "kept"), 2)
    with pytest.raises(ConfigError, match=r"canopy.yaml: stages\.budget_gib"):
        load_stages(write(tmp_path, f"{others}stages: {{budget_gib: x}}"))
