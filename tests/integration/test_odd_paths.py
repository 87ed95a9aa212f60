"""Paths that name no file, or one that cannot be read or written: one line that names them."""

import os

import pytest

from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.model_file import TrainedModel, save_model
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 1, backbone: tinycnn_8, threads: 1}
"""
ODD = ["", "folder", "pipe", "/dev/zero", "itself", "x" * 300, "canopy.yaml/x", "a\udcff.pt"]
UNWRITABLE = ["", "folder", "x" * 300, "x" * 250, "canopy.yaml/x", "itself/x"]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> InProcess:
    """Has images, a model, and odd things with odd names."""
    folder = tmp_path_factory.mktemp("odd")
    write_planet_data(folder, images=40)
    (folder / "canopy.yaml").write_text(CONFIG)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "itself").symlink_to("itself")
    network = build_backbone("tinycnn_8", labels=2, image_px=16, weights="none", seed=0)
    settings = {"data": {}, "training": {"backbone": "tinycnn_8", "weights": "none"}}
    save_model(folder / "m.pt", TrainedModel(network, ("a", "b"), 16, settings, {}))
    return InProcess(folder, postgres_url)


def refusal(user: InProcess, *arguments: str) -> str:
    """The one line with which a command is refused, without its progress."""
    ended = user.run(*arguments, status=None)
    assert ended.returncode in {1, 2}, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("canopy: ")]
    assert len(lines) == 1, ended.stderr
    assert lines[0].isprintable()
    return lines[0]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
@pytest.mark.parametrize("place", ["predict PATH train-jpg", "predict m.pt PATH", "train PATH"])
def test_what_cannot_be_read_is_named(user: InProcess, place: str, odd: str) -> None:
    words = [odd if word == "PATH" else word for word in place.split()]
    line = refusal(user, *words)
    assert odd.partition("\udcff")[0] in line
    if odd in {"pipe", "/dev/zero"}:
        assert "a pipe" in line
    assert list(user.folder.glob("**/*.part")) == []


@pytest.mark.parametrize("odd", UNWRITABLE, ids=ascii)
@pytest.mark.parametrize("command", ["predict m.pt train-jpg", "train canopy.yaml"])
def test_what_cannot_be_written_is_named_before_the_work(
    user: InProcess, command: str, odd: str
) -> None:
    line = refusal(user, *command.split(), "--output", odd)
    assert odd.removesuffix("/x") in line
    assert list(user.folder.glob("**/*.part")) == []


def test_names_of_any_bytes_are_predicted(user: InProcess) -> None:
    image = next((user.folder / "train-jpg").iterdir())
    name = user.folder / "folder" / "b\udcff\x1b[2J.jpg"
    name.write_bytes(image.read_bytes())
    try:
        user.run("predict", "m.pt", "folder", "--output", "folder/out\udcff.csv")
        written = (user.folder / "folder" / "out\udcff.csv").read_text()
    finally:
        name.unlink()
    assert r"b\xff" in written
