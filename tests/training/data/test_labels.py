import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.labels import read_label_file
from training.errors import LabelFileError


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "train_classes.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_names_and_labels_are_sorted_whatever_the_order_of_rows(tmp_path: Path) -> None:
    table = read_label_file(written(tmp_path, "image_name,tags\nb,road clear\na,water\nc,clear\n"))

    assert table.image_names == ("a", "b", "c")
    assert table.labels == ("clear", "road", "water")
    assert table.targets.dtype == np.uint8
    assert table.targets.tolist() == [[0, 0, 1], [1, 1, 0], [1, 0, 0]]


def test_an_image_without_tags_has_no_labels(tmp_path: Path) -> None:
    table = read_label_file(written(tmp_path, "image_name,tags\na,clear\nb,\n"))

    assert table.targets.tolist() == [[1], [0]]


def test_byte_order_mark_windows_line_ends_blank_lines_and_further_columns(tmp_path: Path) -> None:
    content = '\ufefftags,image_name,note\r\nroad,a.jpg,x\r\n\r\n"clear  road",b.jpg,y\r\n'

    table = read_label_file(written(tmp_path, content))

    assert table.image_names == ("a.jpg", "b.jpg")
    assert table.labels == ("clear", "road")
    assert table.targets.tolist() == [[0, 1], [1, 1]]


def test_equal_rows_count_once(tmp_path: Path) -> None:
    table = read_label_file(written(tmp_path, "image_name,tags\na,road clear\n./a,clear road\n"))

    assert table.image_names == ("a",)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["the file is empty", "image_name,tags"]),
        ("image_name,tags\n", ["no images below the header"]),
        ("name,labels\na,b\n", ["row 1", "found name,labels", "image_name and tags missing"]),
        ("image_name,label\na,b\n", ["row 1", "found image_name,label", "; tags missing"]),
        ("image_name,tags\na\n", ["row 2", "found only 'a'"]),
        ("image_name,tags\na,x\n,y\n", ["row 3", "image_name is empty"]),
        (
            "image_name,tags\na,x\nb,x\na,x y\n",
            ["rows 2 and 4", "'a'", "'x'", "'x y'", "keep one of them"],
        ),
        ('image_name,tags\na,"x', ["row 2", "not CSV"]),
        (b"image_name,tags\na,\xff\n", ["expected UTF-8", "0xff"]),
    ],
)
def test_a_malformed_file_is_described(
    tmp_path: Path, content: str | bytes, parts: list[str]
) -> None:
    path = written(tmp_path, content)

    with pytest.raises(LabelFileError) as caught:
        read_label_file(path)

    for part in [str(path), *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "C:/x", "..\\x", "C:x", "x\0", "."]
)
def test_a_name_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f"image_name,tags\nok,clear\n{name},clear\n")

    with pytest.raises(LabelFileError, match=r"row 3.*does not lie in the folder of images"):
        read_label_file(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelFileError, match=r"absent\.csv: no such label file"):
        read_label_file(tmp_path / "absent.csv")
    with pytest.raises(LabelFileError, match="cannot be read: Is a directory"):
        read_label_file(tmp_path)


NAMES = st.from_regex(r"[a-zA-Z0-9_é][a-zA-Z0-9_ é-]{0,8}[a-z]", fullmatch=True)
TAGS = st.frozensets(st.from_regex(r"[a-z0-9_,\"é]{1,6}", fullmatch=True), max_size=4)


@given(rows=st.dictionaries(NAMES, TAGS, min_size=1, max_size=12), windows=st.booleans())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, frozenset[str]], windows: bool
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\r\n" if windows else "\n")
        writer.writerow(["image_name", "tags"])
        writer.writerows((name, " ".join(tags)) for name, tags in rows.items())

    table = read_label_file(path)

    read = {
        name: frozenset(np.array(table.labels, object)[row.astype(bool)])
        for name, row in zip(table.image_names, table.targets, strict=True)
    }
    assert read == rows
    assert list(table.image_names) == sorted(rows)
    assert list(table.labels) == sorted(frozenset().union(*rows.values()))
