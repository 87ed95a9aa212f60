import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PredictionError
from canopy_search.search.workflows.predict import (
    Format,
    ImageFile,
    Predicted,
    PredictionSettings,
    find_images,
    predict_images,
    tag_separator,
)
from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.data.labels.tags import tag_targets
from canopy_search.training.network.model_file import TrainedModel
from canopy_search.training.network.small_nets import SMALL_NETS
from canopy_search.training.prediction import predict
from tests.planet_data import write_planet_data

LABELS = ("clear", "no finding", "road")
SETTINGS = {"training": {"loss": "bce", "backbone": "tinycnn_8"}}


@pytest.fixture
def model() -> TrainedModel:
    torch.manual_seed(3)
    return TrainedModel(SMALL_NETS["tinycnn_8"](len(LABELS)).eval(), LABELS, 16, SETTINGS, {})


@pytest.fixture
def files(tmp_path: Path) -> list[ImageFile]:
    write_planet_data(tmp_path, images=6)
    return find_images([str(tmp_path / "train-jpg")], tmp_path)


def predicted(
    model: TrainedModel, files: list[ImageFile], output_format: Format, *thresholds: float
) -> Predicted:
    values = np.array(thresholds or (0, 0, 0), np.float32)
    return predict_images(model, files, PredictionSettings(values, output_format, "cpu", 4))


def test_csv_and_json_say_the_same(model: TrainedModel, files: list[ImageFile]) -> None:
    rows = list(csv.DictReader(io.StringIO(predicted(model, files, "csv").text)))
    document = json.loads(predicted(model, files, "json").text)

    assert len(rows) == len(document) == 6
    for row, entry in zip(rows, document, strict=True):
        assert row["image_name"] == entry["image_name"]
        assert row["tags"].split("|") == entry["tags"] or (row["tags"], entry["tags"]) == ("", [])
        assert entry["probabilities"] == {label: float(row[f"p_{label}"]) for label in LABELS}


def test_a_label_is_a_tag_from_its_threshold_on(
    model: TrainedModel, files: list[ImageFile]
) -> None:
    logits = [prediction.logits for prediction in predict(model, [file.path for file in files])]
    at_most, exactly = max(row[0] for row in logits if row is not None), logits[2]
    assert exactly is not None
    just_above = float(np.nextafter(at_most, np.float32(np.inf)))

    text = predicted(model, files, "json", just_above, float(exactly[1]), -1e9).text

    tags = [entry["tags"] for entry in json.loads(text)]
    assert not any("clear" in row for row in tags)
    assert "no finding" in tags[2]
    assert all("road" in row for row in tags)


def test_progress_counts_every_image(model: TrainedModel, files: list[ImageFile]) -> None:
    files[1].path.write_bytes(b"")
    seen: list[tuple[int, int]] = []

    predict_images(
        model,
        files,
        PredictionSettings(np.zeros(3, np.float32), "csv", device="cpu", batch_size=2),
        lambda done, total: seen.append((done, total)),
    )

    assert seen == [(done, 6) for done in range(1, 7)]


def test_of_many_unreadable_images_ten_are_named(words: SnapshotAssertion) -> None:
    many = Predicted("", 2000, [(f"{at}.jpg", "empty: 0 bytes") for at in range(1012)])

    first, *named, last = many.unreadable_lines()

    assert re.findall(r"[\d,]+", first) == ["1,012", "2,000"]
    assert [line.split(".")[0].strip() for line in named] == list("0123456789")
    assert re.findall(r"[\d,]+", last) == ["1,002"]
    assert many.unreadable_lines() == words
    assert Predicted("x", 3, []).unreadable_lines() == []


def test_the_name_of_an_image_does_not_move_the_cursor() -> None:
    lines = Predicted("", 1, [("\x1b[2J\n.jpg", "empty: 0 bytes")]).unreadable_lines()

    assert lines[1].split(": ")[0] == r"  '\x1b[2J\n.jpg'"


def test_json_has_a_line_for_each_image(model: TrainedModel, files: list[ImageFile]) -> None:
    first, *lines, last, _ = predicted(model, files, "json").text.split("\n")

    assert (first, last) == ("[", "]")
    names = [json.loads(line.removesuffix(","))["image_name"] for line in lines]
    assert names == [file.name for file in files]


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        (["clear", "road"], " "),
        (["no finding", "road"], "|"),
        (["a|b", "road"], ";"),
        (["a|b;c", "no finding"], ","),
        (["non\u00a0breaking", "x"], "|"),
    ],
)
def test_the_separator_occurs_in_no_label(labels: list[str], separator: str) -> None:
    assert tag_separator(labels) == separator


def test_labels_with_every_mark_need_json(model: TrainedModel, files: list[ImageFile]) -> None:
    marked = TrainedModel(model.network, ("a|b", "c;d", "e,f"), 16, SETTINGS, {})

    with pytest.raises(PredictionError, match="--format json"):
        predicted(marked, files, "csv")
    assert json.loads(predicted(marked, files, "json").text)


@given(
    st.lists(
        st.text("ab |;,", min_size=1).filter(lambda label: label == label.strip()),
        min_size=2,
        unique=True,
    )
)
def test_canopy_reads_the_tags_again_or_asks_for_the_separator(labels: list[str]) -> None:
    try:
        separator = tag_separator(labels)
    except PredictionError:
        return
    cells = [separator.join(labels), ""]
    rows = LabelRows(Path("x.csv"), "CSV", ("tags",), (2, 3), lambda _: cells)

    read = tag_targets(rows, "tags", "space" if separator == " " else separator)

    assert read.labels == tuple(sorted(labels))
    if separator == " ":
        assert tag_targets(rows, "tags", "auto").labels == read.labels
