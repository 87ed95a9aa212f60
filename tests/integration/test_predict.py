"""Tags and probabilities through the command."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.labels.label_file import read_label_file
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.model_file import TrainedModel, load_model, save_model
from canopy_search.training.settings import DataSettings
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {backbone: tinycnn_8, epochs: 4, batch_size: 16, precision: fp32, device: cpu}
"""
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
    (folder / "linked").mkdir()
    (folder / "linked" / "link.jpg").symlink_to(folder / "outside" / "y.jpg")
    network = build_backbone("tinycnn_8", labels=3, image_px=16, weights="none", seed=1).eval()
    settings = {"data": {}, "training": {"backbone": "tinycnn_8", "weights": "none"}}
    always = {"f1": (-1e9, 1e9, -1e9), "f2": (1e9, 1e9, 1e9)}
    save_model(folder / "m.pt", TrainedModel(network, LABELS, 16, settings, {}, always))
    return folder


def without_thresholds(folder: Path) -> None:
    """Writes ``old.pt``, the model as Canopy wrote it before it chose thresholds."""
    content = torch.load(folder / "m.pt", weights_only=True)
    del content["thresholds"]
    torch.save(content | {"revision": 1}, folder / "old.pt")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_links_out_of_a_folder_are_followed_if_the_user_says_so(folder: Path) -> None:
    refused = InProcess(folder).run("predict", "m.pt", "linked", status=2).stderr
    process = InProcess(folder).run("predict", "m.pt", "linked", "--follow-links")

    assert "--follow-links" in refused
    assert [row["image_name"] for row in rows(process.stdout)] == ["link.jpg"]


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
    process = InProcess(folder).run("predict", "m.pt", "train-jpg", "--output", "made/tags.csv")

    assert process.stdout == ""
    assert process.stderr.endswith("wrote 8 of 8 images to made/tags.csv\n")
    table = read_label_file(folder / "made" / "tags.csv", DataSettings(demo="digits"))

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
    folder: Path, tmp_path: Path, words: SnapshotAssertion
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    good = str(folder / "train-jpg" / "train_0.jpg")
    user = InProcess(tmp_path)

    process = user.run("predict", str(folder / "m.pt"), "bad.jpg", good, status=1)
    none = user.run("predict", str(folder / "m.pt"), "bad.jpg", "--output", "x.csv", status=1)

    assert [row["image_name"] for row in rows(process.stdout)] == [good]
    assert process.stderr.splitlines()[-3:] == words
    assert "0 bytes" in none.stderr
    assert none.stdout == ""
    assert not (tmp_path / "x.csv").exists()


WRONG = {
    "no file": (("m.pt", "absent.jpg"), 2, ["absent.jpg: "]),
    "no match": (("m.pt", "*.gif"), 2, ["*.gif: ", ".jpg"]),
    "empty folder": (("m.pt", "empty"), 2, ["empty: "]),
    "no model": (("absent.pt", "train-jpg"), 2, ["absent.pt: "]),
    "the other way round": (("train-jpg", "m.pt"), 2, ["train-jpg: "]),
    "a table as model": (("train_classes.csv", "train-jpg"), 1, ["train_classes.csv"]),
    "another's model": (("other.pt", "train-jpg"), 1, ["other.pt: "]),
    "no device": (("m.pt", "train-jpg", "--device", "cuda:7"), 2, ["canopy: device: cuda:7"]),
    "another word": (("m.pt", "train-jpg", "--device", "gpu"), 2, ["auto, cpu", "'gpu'"]),
    "into a folder": (("m.pt", "train-jpg", "--output", "empty"), 2, ["empty: "]),
    "over the model": (("m.pt", "train-jpg", "--output", "m.pt"), 2, ["--output m.pt"]),
    "over an image": (("m.pt", "train-jpg", "--output", "x.jpg"), 2, ["--output x.jpg"]),
    "no thresholds": (("old.pt", "train-jpg", "--thresholds", "f2"), 2, ["--thresholds half"]),
    "no such thresholds": (("m.pt", "train-jpg", "--thresholds", "f3"), 2, ["f3"]),
}
VARYING = {"no device", "no such thresholds"}  # by the machine, and by the width of a screen


def test_what_is_wrong_is_said(folder: Path, words: SnapshotAssertion) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    torch.save({"weights": torch.zeros(1)}, folder / "other.pt")
    without_thresholds(folder)

    said = {}
    for case, (arguments, status, parts) in WRONG.items():
        said[case] = InProcess(folder).run("predict", *arguments, status=status).stderr
        for part in parts:
            assert part in said[case]
    assert "".join(text for case, text in said.items() if case not in VARYING) == words


def test_a_model_without_thresholds_tags_from_one_half_on_and_says_so(
    folder: Path, words: SnapshotAssertion
) -> None:
    without_thresholds(folder)
    user = InProcess(folder)

    old = user.run("predict", "old.pt", "train-jpg")
    half = user.run("predict", "m.pt", "train-jpg", "--thresholds", "half")

    assert [line for line in old.stderr.splitlines() if "old.pt" in line] == words
    assert old.stdout == half.stdout
    assert "note" not in half.stderr


def test_predict_scores_on_test_what_train_said(tmp_path: Path) -> None:
    """The whole way: train, then predict the images held out for test."""
    write_planet_data(tmp_path, images=80)
    header, *lines = (tmp_path / "train_classes.csv").read_text().splitlines()
    parts = [("train", "train", "validation", "test")[at % 4] for at in range(len(lines))]
    labelled = [f"{line},{part}" for line, part in zip(lines, parts, strict=True)]
    (tmp_path / "train_classes.csv").write_text("\n".join([f"{header},split", *labelled]) + "\n")
    (tmp_path / "best.yaml").write_text(CONFIG)
    truth = {
        name: tags.split()
        for name, tags, part in (line.split(",") for line in labelled)
        if part == "test"
    }
    canopy = InProcess(tmp_path)

    trained = canopy.json("train", "best.yaml", "--output", "best.pt")
    files = [f"train-jpg/{name}.jpg" for name in truth]
    arguments = ("predict", "best.pt", *files, "--thresholds")
    at_thresholds = canopy.run(*arguments, "f1").stdout
    at_half = canopy.run(*arguments, "half").stdout

    model = load_model(tmp_path / "best.pt")
    assert model.thresholds.keys() == {"f1", "f2"}
    assert trained["test_f2_at_thresholds"] == model.metrics["test_f2_at_thresholds"]
    for key, output in (("test_f1_at_thresholds", at_thresholds), ("test_f1", at_half)):
        tags = [row["tags"].split() for row in rows(output)]
        assert trained[key] == pytest.approx(macro_f1(list(truth.values()), tags, model.labels))
    assert trained["test_f1_at_thresholds"] != trained["test_f1"]


def macro_f1(truth: list[list[str]], tags: list[list[str]], labels: tuple[str, ...]) -> float:
    """By scikit-learn, over the labels that occur."""
    binarizer = MultiLabelBinarizer(classes=labels).fit([])
    targets = binarizer.transform(truth)
    scores = f1_score(targets, binarizer.transform(tags), average=None, zero_division=0)
    return float(scores[targets.any(axis=0)].mean())
