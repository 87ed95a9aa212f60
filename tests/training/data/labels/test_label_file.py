import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.errors import LabelFileError
from canopy_search.training.settings import ColumnSettings, SplitSettings
from tests.label_files import labels_of, tags, written


def parquet_file(tmp_path: Path, **columns: Sequence[Any]) -> Path:
    path = tmp_path / "labels.parquet"
    parquet.write_table(pa.table({name: list(values) for name, values in columns.items()}), path)
    return path


def test_names_and_labels_are_sorted_whatever_the_order_of_rows(tmp_path: Path) -> None:
    table = labels_of(written(tmp_path, "image_name,tags\nb,road clear\na,water\nc,clear\n"))

    assert table.image_names == ("a", "b", "c")
    assert table.row_numbers == (3, 2, 4)
    assert table.labels == ("clear", "road", "water")
    assert table.targets.dtype == np.uint8
    assert table.targets.tolist() == [[0, 0, 1], [1, 1, 0], [1, 0, 0]]
    assert table.parts is None
    assert table.groups is None


def test_an_image_without_tags_has_no_labels(tmp_path: Path) -> None:
    table = labels_of(written(tmp_path, "image_name,tags\na,clear\nb,\n"))

    assert table.targets.tolist() == [[1], [0]]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_windows_line_ends_blank_lines_and_further_columns(
    tmp_path: Path, encoding: str
) -> None:
    content = 'tags,image_name,note\r\nroad,a.jpg,x\r\n\r\n,,\r\n"clear  é",b.jpg,"y,""z"\r\n'

    table = labels_of(written(tmp_path, content.encode(encoding)))

    assert tags(table) == {"a.jpg": {"road"}, "b.jpg": {"clear", "é"}}
    assert table.ignored == ("note",)


def test_equal_rows_count_once(tmp_path: Path) -> None:
    table = labels_of(written(tmp_path, "image_name,tags\na,road clear\n./a,clear road\n"))

    assert table.image_names == ("a",)


@pytest.mark.parametrize(
    ("cells", "layout"),
    [
        (["clear primary", "water"], "spaces"),
        (["clear, primary", "water"], "commas"),
        (["clear;primary;", "water"], "semicolons"),
        (["clear | primary", "water"], "vertical bars"),
    ],
)
def test_the_separator_of_tags_is_recognised_and_said(
    tmp_path: Path, cells: list[str], layout: str
) -> None:
    rows = "".join(f'{at},"{cell}"\n' for at, cell in enumerate(cells))

    table = labels_of(written(tmp_path, f"image_name,tags\n{rows}"))

    assert tags(table) == {"0": {"clear", "primary"}, "1": {"water"}}
    assert table.layout == f"CSV, tags separated by {layout}"


def test_a_separator_other_than_a_space_keeps_spaces_in_labels(tmp_path: Path) -> None:
    table = labels_of(written(tmp_path, "image_name,tags\na,clear sky|sea\nb,clear sky\n"))

    assert tags(table) == {"a": {"clear sky", "sea"}, "b": {"clear sky"}}


def test_two_separators_are_a_question_that_the_settings_answer(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    path = written(tmp_path, 'image_name,tags\na,"x|y, z"\nb,x|y\n')

    with pytest.raises(LabelFileError, match=r"'\|' .* ',';.*'\|'") as caught:
        labels_of(path)
    assert str(caught.value) == words
    assert tags(labels_of(path, ColumnSettings(separator="|")))["a"] == {"x", "y, z"}
    assert tags(labels_of(path, ColumnSettings(separator="space")))["a"] == {"x|y,", "z"}


@pytest.mark.parametrize(("delimiter", "layout"), [(";", "CSV with semicolons"), ("\t", "tab")])
def test_the_delimiter_of_cells_is_recognised(tmp_path: Path, delimiter: str, layout: str) -> None:
    content = "image_name,tags,note\na,x y,1\n".replace(",", delimiter)

    table = labels_of(written(tmp_path, content))

    assert tags(table) == {"a": {"x", "y"}}
    assert table.layout.startswith(layout)


def test_a_column_for_each_label(tmp_path: Path) -> None:
    content = "image_name,road,sea,split\nb/2.png,0,1,train\na/1.png,true,FALSE,val\nc,1.0, 1,dev\n"

    table = labels_of(written(tmp_path, content))

    assert tags(table) == {"a/1.png": {"road"}, "b/2.png": {"sea"}, "c": {"road", "sea"}}
    assert table.labels == ("road", "sea")
    assert table.parts == ("validation", "train", "validation")
    assert table.layout == "CSV, a column for each label"


def test_listed_columns_are_the_labels_and_the_others_are_ignored(tmp_path: Path) -> None:
    content = "file,sea,road,age,tags\na,1,0,34,x\n"
    columns = ColumnSettings(image="file", labels=("road", "sea"))

    table = labels_of(written(tmp_path, content), columns)

    assert tags(table) == {"a": {"sea"}}
    assert table.ignored == ("age", "tags")


def test_json_lines_with_lists_or_text_or_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"image_name": "a", "tags": ["clear sky", "sea"], "group": 7},
        {"image_name": 12, "tags": []},
        {"image_name": "c", "tags": None, "group": "x"},
    ]
    table = labels_of(written(tmp_path, "\n\n".join(json.dumps(row) for row in rows)))
    assert tags(table) == {"12": frozenset(), "a": {"clear sky", "sea"}, "c": frozenset()}
    assert table.layout == "JSON lines, tags in lists"
    assert table.groups == ("", "7", "x")
    assert table.row_numbers == (3, 1, 5)

    text = '{"image_name": "a", "tags": "x;y"}\n{"image_name": "b", "tags": "x"}\n'
    assert tags(labels_of(written(tmp_path, text))) == {"a": {"x", "y"}, "b": {"x"}}

    one_hot = '{"image_name": "a", "x": true, "y": 0}\n{"image_name": "b", "x": 0.0, "y": 1}\n'
    assert tags(labels_of(written(tmp_path, one_hot))) == {"a": {"x"}, "b": {"y"}}


def test_parquet_with_lists_or_columns(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path,
        image_name=["b", "a"],
        tags=[["x", "y"], []],
        group=["p1", None],
        image=[b"\xff\xd8", b""],
    )
    table = labels_of(path)
    assert tags(table) == {"a": frozenset(), "b": {"x", "y"}}
    assert table.groups == ("", "p1")
    assert table.row_numbers == (2, 1)
    assert table.layout == "Parquet, tags in lists"

    path = parquet_file(tmp_path, name=["a", "b"], x=[True, False], y=[0, 1], z=[1.0, 0.0])
    table = labels_of(path, ColumnSettings(image="name"))
    assert tags(table) == {"a": {"x", "z"}, "b": {"y"}}


def test_a_parquet_file_of_several_row_groups_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    table = pa.table({"image_name": [f"{at}" for at in range(9)], "tags": ["x"] * 9})
    parquet.write_table(table, path, row_group_size=2)

    assert len(labels_of(path).image_names) == 9


def test_a_split_that_is_not_used_is_no_label(tmp_path: Path) -> None:
    content = "image_name,road,sea,fold,split,group\na,0,1,train,1,0\nb,1,0,val,0,1\n"
    path = written(tmp_path, content)
    assert labels_of(path, split=SplitSettings(column="fold")).labels == ("road", "sea")
    ignored = SplitSettings(column=None, group="fold")
    assert labels_of(path, split=ignored).labels == ("road", "sea")


def test_split_and_group_columns_may_be_called_otherwise_or_ignored(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    path = written(tmp_path, "image_name,tags,fold,split,patient\na,x,test,train,p\nb,x,train,,q\n")

    table = labels_of(path, split=SplitSettings(column="fold", group="patient"))
    assert table.parts == ("test", "train")
    assert table.groups == ("p", "q")

    assert labels_of(path, split=SplitSettings(column=None)).parts is None
    with pytest.raises(LabelFileError, match=r"row 3: column 'split': ") as caught:
        labels_of(path)
    assert str(caught.value) == words
    with pytest.raises(
        LabelFileError, match=r"data\.split\.group: .*'patent'.*'patient'"
    ) as caught:
        labels_of(path, split=SplitSettings(column=None, group="patent"))
    assert str(caught.value) == words


def test_select_keeps_everything_in_step(tmp_path: Path) -> None:
    content = "image_name,tags,split,group\na,x,train,1\nb,y,val,2\nc,x y,test,3\n"

    some = labels_of(written(tmp_path, content)).select([2, 0])

    assert some.image_names == ("c", "a")
    assert some.targets.tolist() == [[1, 1], [1, 0]]
    assert (some.row_numbers, some.parts, some.groups) == ((4, 2), ("test", "train"), ("3", "1"))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["the file is empty", "image_name,tags"]),
        (" \n\n", ["the file is empty"]),
        ("image_name,tags\n", ["no images below the header"]),
        ("name,labels\na,b\n", ["row 1", "found name,labels", "image_name and tags missing"]),
        ("image_name\na\n", ["row 1", "found image_name", "tags missing"]),
        ("image_name,tag\na,b\n", ["row 2", "'tag'", "found 'b'", "data.columns.tags"]),
        ("image_name,tags,tags\na,b,c\n", ["row 1", "duplicate column 'tags'"]),
        ("image_name,tags\na\n", ["row 2", "expected 2 cells, found 1", "tags missing"]),
        ("image_name,tags\na,x,y\n", ["row 2", "expected 2 cells, found 3", "double quotes"]),
        ("image_name,tags\na,x\n,y\n", ["row 3", "image is empty"]),
        (
            "image_name,tags\na,x\nb,x\na,x y\n",
            ["rows 2 and 4", "'a'", "'x'", "'x y'", "keep one of them"],
        ),
        ("image_name,tags,split\na,x,val\na,x,train\n", ["rows 2 and 3", "sets of splits"]),
        ('image_name,tags\na,"x', ["row 2", "not CSV"]),
        (b"image_name,tags\na,x\nb,\xff\n", ["row 3", "expected UTF-8", "0xff", "save"]),
        (b"image_name,tags\nb,\0\n", ["row 2", "a NUL byte"]),
        ("image_name,tags\na,x\ax\n", ["row 2", "control characters"]),
        ("image_name,x\na,\n", ["row 2", "column 'x'", "found ''", "data.columns.blank"]),
        ("image_name,x,y\na,1,0\nb,0,2\n", ["row 3", "column 'y'", "found '2'"]),
        ("image_name,split\na,train\n", ["no columns of labels", "tags"]),
        ('{"image_name": "a", "x": [1]}\n', ["row 1", "column 'x'", "found [1]"]),
        ('{"image_name": "a"}\n', ["row 1", "tags missing"]),
        ('{"image_name": "a", "tags": 1.5}\n', ["row 1", "expected tags, found 1.5"]),
        ('{"image_name": "a", "tags": [1.5]}\n', ["row 1", "expected tags, found [1.5]"]),
        ('{"image_name": ["a"], "tags": ""}\n', ["row 1", "expected the name of an image"]),
        ('{"image_name": "a", "tags": ""}\n{"image\n', ["row 2", "not a JSON object"]),
        ('{"image_name": "a", "tags": ""}\n[]\n', ["row 2", "expected a JSON object"]),
        ('{"tags": "x", "tags": "y", "image_name": "a"}', ["row 1", "duplicate key 'tags'"]),
        ('{"image_name": "a", "x": NaN}\n', ["row 1", "column 'x'", "found nan"]),
        ('[{"image_name": "a"}]', ["row 1", "tags missing"]),
        ('[{"image_name": "a"', ["row 1", "a JSON array that cannot be read"]),
        ('[["a", "x"]]', ["row 1", "expected a JSON object", "['a', 'x']"]),
        ('{\n  "a": ["x"],\n  "b": ["y"]\n}', ["one JSON object", "a, b", "COCO"]),
        ("image_name,x\na,1\nb,-1\n", ["row 3", "found '-1'", "data.columns.uncertain"]),
        ("image_name,tags\na,\"['x', 'y']\"\nb,z\n", ["row 2", "row 3 is plain text, 'z'"]),
        ("image_name,tags\na,\"{'x': 1}\"\n", ["row 2", "a dictionary"]),
        ("image_name,tags\na,\"['x' 'y' ... 'z']\"\n", ["row 2", "shortened"]),
        (
            "image_name,tags\na,\nb,0 1 1\nc,1 0 0\n",
            ["row 3", "'0 1 1' is a 0 or 1 for each label"],
        ),
        ("image_name,tags\na,[1. 0.]\nb,[0. 0.]\n", ["'[1. 0.]' is a 0 or 1 for each label"]),
        ('[{"image_name": "a", "tags": [0, 1]}]', ["row 1", "a column for each label"]),
        ("image_name,tags,\na,x,y\n", ["row 2", "expected 2 cells, found 3"]),
        (b"PK\x03\x04....", ["a zip or Excel file", "CSV"]),
        (b"\x1f\x8b....", ["a gzip file"]),
        (b"\x89PNG....", ["a PNG image", "data.images"]),
        (b"PAR1....", ["a damaged Parquet file"]),
    ],
)
def test_a_malformed_file_is_described(
    tmp_path: Path, content: str | bytes, parts: list[str]
) -> None:
    path = written(tmp_path, content)

    with pytest.raises(LabelFileError) as caught:
        labels_of(path)

    for part in [str(path), *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_parquet_file_is_described(tmp_path: Path, kept: float) -> None:
    path = parquet_file(tmp_path, image_name=["a"] * 100, tags=["x"] * 100)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])

    with pytest.raises(LabelFileError, match="a damaged Parquet file"):
        labels_of(path)


OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "C:/x", "..\\x", "C:x", "x\x07", "."]


def test_a_name_outside_the_folder_is_refused(tmp_path: Path, words: SnapshotAssertion) -> None:
    said = set()
    for name in OUTSIDE:
        path = written(tmp_path, f"image_name,tags\nok,clear\n{name},clear\n")
        with pytest.raises(LabelFileError, match="row 3") as caught:
            labels_of(path)
        assert repr(name) in str(caught.value)
        said.add(str(caught.value).replace(repr(name), "NAME"))
    assert sorted(said) == words


def test_a_column_that_is_no_column_of_tags_is_recognised_by_its_many_values(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    rows = "".join(f"{at},{' '.join(f't{at * 11 + k}' for k in range(11))}\n" for at in range(1000))

    with pytest.raises(LabelFileError, match=r"11,000 .*data\.columns\.tags") as caught:
        labels_of(written(tmp_path, f"image_name,tags\n{rows}"))
    assert str(caught.value) == words


def test_a_thousand_labels_are_no_obstacle(tmp_path: Path) -> None:
    rows = "".join(f"{at},t{at} t{(at + 1) % 1000}\n" for at in range(1000))

    table = labels_of(written(tmp_path, f"image_name,tags\n{rows}"))

    assert table.targets.shape == (1000, 1000)
    assert table.targets.sum() == 2000


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path, words: SnapshotAssertion) -> None:
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(LabelFileError) as caught:
            labels_of(path)
        assert str(caught.value) == words


NAMES = st.from_regex(r"[a-zA-Z0-9_é][a-zA-Z0-9_ é-]{0,8}[a-z]", fullmatch=True)
TAGS = st.frozensets(st.from_regex(r"[a-z0-9_\"é]{1,6}", fullmatch=True), max_size=4)
TABLES = st.dictionaries(NAMES, TAGS, min_size=1, max_size=12)


@given(rows=TABLES, windows=st.booleans(), mark=st.sampled_from(" ,;|"))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[str, frozenset[str]],
    windows: bool,
    mark: str,
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\r\n" if windows else "\n")
        writer.writerow(["image_name", "tags"])
        writer.writerows((name, mark.join(some)) for name, some in rows.items())

    table = labels_of(path)

    assert tags(table) == rows
    assert list(table.image_names) == sorted(rows)
    assert list(table.labels) == sorted(frozenset().union(*rows.values()))


@given(rows=TABLES)
def test_all_layouts_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, frozenset[str]]
) -> None:
    labels = sorted(frozenset().union(*rows.values()) | {"never"})
    table = pa.table(
        {"image_name": list(rows)}
        | {label: [label in some for some in rows.values()] for label in labels}
    )
    folder = tmp_path_factory.mktemp("labels")
    parquet.write_table(table, folder / "labels.parquet")
    (folder / "labels.jsonl").write_text("\n".join(json.dumps(row) for row in table.to_pylist()))

    for name in ("labels.parquet", "labels.jsonl"):
        read = labels_of(folder / name)
        assert tags(read) == rows
        assert read.labels == tuple(labels)
