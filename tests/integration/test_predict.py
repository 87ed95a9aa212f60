"""Tags and probabilities through the command."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data
from training.backbones import build_backbone
from training.data.labels import read_label_file
from training.model_file import TrainedModel, save_model

LABELS = ("clear", "no finding", "road")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    write_planet_data(folder, images=8)
    (folder / "train-jpg" / "deep").mkdir()
    (folder / "train-jpg" / "train_7.jpg").rename(folder / "train-jpg" / "deep" / "x.JPG")
    (folder / "train-jpg" / "notes.txt").write_text("no image")
    (folder / "outside").mkdir()
    (folder / "outside" / "y.jpg").write_bytes((folder / "train-jpg/train_0.jpg").read_bytes())
    (folder / "train-jpg" / "link.jpg").symlink_to(folder / "outside" / "y.jpg")
    (folder / "train-jpg" / "links").symlink_to(folder / "outside")
    network = build_backbone("tinycnn_8", labels=3, image_px=16, weights="none", seed=1).eval()
    settings = {"training": {"backbone": "tinycnn_8"}}
    always = {"f1": (-1e9, 1e9, -1e9), "f2": (1e9, 1e9, 1e9)}
    save_model(folder / "m.pt", TrainedModel(network, LABELS, 16, settings, {}, always))
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_folder_stands_for_all_images_in_and_below_it(folder: Path) -> None:
    process = InProcess(folder).run("predict", "m.pt", "train-jpg")

    predicted = rows(process.stdout)
    assert [row["image_name"] for row in predicted] == [
        "deep/x.JPG",
        *(f"train_{at}.jpg" for at in range(7)),
    ]
    assert list(predicted[0]) == ["image_name", "tags", *(f"p_{label}" for label in LABELS)]
    assert {row["tags"] for row in predicted} == {"clear|road"}
    assert all(0 < float(row["p_no finding"]) < 1 for row in predicted)
    assert "predicting: 8 of 8" in process.stderr


def test_files_folders_and_globs_count_once_and_keep_their_names(folder: Path) -> None:
    arguments = ("train-jpg/train_1.jpg", "train-jpg/**/*.JPG", "./train-jpg")

    process = InProcess(folder).run("predict", "m.pt", *arguments)

    names = [row["image_name"] for row in rows(process.stdout)]
    assert names[:2] == ["train-jpg/train_1.jpg", "train-jpg/deep/x.JPG"]
    assert len(names) == 8


def test_what_is_written_is_a_label_file(folder: Path) -> None:
    InProcess(folder).run("predict", "m.pt", "train-jpg", "--output", "made/tags.csv")

    table = read_label_file(folder / "made" / "tags.csv")

    assert table.labels == ("clear", "road")
    assert len(table.image_names) == 8


def test_json_holds_lists_and_numbers(folder: Path) -> None:
    InProcess(folder).run(
        "predict", "m.pt", "train-jpg", "--output", "p.json", "--thresholds", "f2"
    )

    predicted = json.loads((folder / "p.json").read_text())
    half = InProcess(folder).run(
        "predict", "m.pt", "train-jpg", "--format", "json", "--thresholds", "half"
    )

    assert all(row["tags"] == [] for row in predicted)
    for row in json.loads(half.stdout):
        assert row["tags"] == [label for label, p in row["probabilities"].items() if p >= 0.5]


def test_an_unreadable_image_is_reported_and_the_others_are_written(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    good = str(folder / "train-jpg" / "train_0.jpg")
    user = InProcess(tmp_path)

    process = user.run("predict", str(folder / "m.pt"), "bad.jpg", good, status=1)
    none = user.run("predict", str(folder / "m.pt"), "bad.jpg", "--output", "x.csv", status=1)

    assert [row["image_name"] for row in rows(process.stdout)] == [good]
    assert "1 of 2 images cannot be read: bad.jpg (empty: 0 bytes)" in process.stderr
    assert "1 of 1 images" in none.stderr
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (("m.pt", "absent.jpg"), 2, ["absent.jpg: no such file or folder"]),
        (("m.pt", "*.gif"), 2, ["*.gif: no image matches", ".jpg"]),
        (("m.pt", "empty"), 2, ["empty: no images in this folder"]),
        (("absent.pt", "train-jpg"), 1, ["absent.pt: No such file"]),
        (("train_classes.csv", "train-jpg"), 1, ["train_classes.csv", "not a file of torch's"]),
        (("other.pt", "train-jpg"), 1, ["other.pt: not a model file of Canopy"]),
        (("m.pt", "train-jpg", "--device", "cuda:7"), 2, ["cuda"]),
        (("m.pt", "train-jpg", "--thresholds", "f3"), 2, ["f3"]),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, arguments: tuple[str, ...], status: int, parts: list[str]
) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    torch.save({"weights": torch.zeros(1)}, folder / "other.pt")

    said = InProcess(folder).run("predict", *arguments, status=status).stderr

    for part in parts:
        assert part in said
