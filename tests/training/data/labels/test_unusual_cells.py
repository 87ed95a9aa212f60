"""Cells, words and lists that programs and people write, and messages about them."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from canopy_search.training.data.labels.label_file import read_label_file
from canopy_search.training.data.labels.targets import UNKNOWN
from canopy_search.training.errors import LabelFileError
from canopy_search.training.settings import ColumnSettings, DataSettings, SplitSettings
from tests.label_files import labels_of, tags, written


@pytest.mark.parametrize(
    "cells",
    [
        ["['x', 'y']", "[]", "['x']"],
        ['["x", "y"]', "[]", '["x"]'],
        ["['x' 'y']", "[]", "['x']"],
        ["['x'\n 'y']", "nan", "['x']"],
        ["{'x', 'y'}", "set()", "{'x'}"],
        [
            "array(['x', 'y'], dtype=object)",
            "array([], dtype=object)",
            "array(['x'], dtype=object)",
        ],
        ["('x', 'y')", "()", "('x',)"],
        ["{x,y}", "{}", "{x}"],
        ["[x, y]", "", "[x]"],
        ["['x', 'y', None]", "[nan]", "['x']"],
        ["x y", "nan", "x"],
        ["x y", "None", "x"],
        ["x y", "NULL", "x"],
    ],
)
def test_a_list_that_a_program_wrote_as_text_is_the_list(tmp_path: Path, cells: list[str]) -> None:
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["image_name", "tags"], *zip("abc", cells, strict=True)])

    assert tags(labels_of(path)) == {"a": {"x", "y"}, "b": set(), "c": {"x"}}


def test_a_remark_in_parentheses_is_a_tag(tmp_path: Path) -> None:
    table = labels_of(written(tmp_path, "image_name,tags\na,(other)\nb,x\n"))

    assert table.labels == ("(other)", "x")


def test_excel_s_hint_at_the_delimiter_is_no_header(tmp_path: Path) -> None:
    table = labels_of(written(tmp_path, "sep=;\r\nimage_name;tags\r\na;x y\r\n"))

    assert tags(table) == {"a": {"x", "y"}}
    assert table.row_numbers == (3,)


def test_a_json_array_of_objects_is_read(tmp_path: Path) -> None:
    text = json.dumps(
        [{"image_name": "a", "tags": ["x"]}, {"image_name": "b", "tags": []}], indent=1
    )

    assert tags(labels_of(written(tmp_path, text))) == {"a": {"x"}, "b": set()}


@pytest.mark.parametrize(
    ("cells", "labels"),
    [([[3, 7], [7]], ["3", "7"]), ([3.0, None], ["3"]), ([True, False], ["False", "True"])],
)
def test_labels_that_are_numbers_are_those_of_a_csv(
    tmp_path: Path, cells: list[object], labels: list[str]
) -> None:
    path = tmp_path / "labels.parquet"
    parquet.write_table(pa.table({"image_name": ["a", "b"], "tags": cells}), path)

    assert labels_of(path).labels == tuple(labels)


def test_columns_that_excel_adds_at_the_end_are_none(tmp_path: Path) -> None:
    table = labels_of(written(tmp_path, "image_name,tags,,\na,x,,\nb,y,,\n"))

    assert tags(table) == {"a": {"x"}, "b": {"y"}}


def test_a_split_in_which_all_is_for_training_holds_nothing_out(tmp_path: Path) -> None:
    table = labels_of(written(tmp_path, "image_name,tags,split\na,x,train\nb,y,Training\n"))

    assert table.parts is None
    assert table.ignored == ()


def test_words_and_blanks_of_other_programs(tmp_path: Path) -> None:
    content = "image_name,x,y\na,yes,NA\nb,No,#N/A\nc,1.00,<NA>\nd,n/a,1\ne,None,0.00\n"

    table = labels_of(written(tmp_path, content), ColumnSettings(blank="ignore"))

    assert table.targets.T.tolist() == [[1, 0, 1, UNKNOWN, UNKNOWN], [UNKNOWN] * 3 + [1, 0]]


def test_uncertain_and_blank_cells_mean_what_the_settings_say(tmp_path: Path) -> None:
    path = written(tmp_path, "image_name,x,y\na,1,0\nb,-1,\nc,0,1\nd,,-1.0\n")

    ignored = labels_of(path, ColumnSettings(uncertain="ignore", blank="ignore"))
    assert ignored.targets.tolist() == [[1, 0], [UNKNOWN, UNKNOWN], [0, 1], [UNKNOWN, UNKNOWN]]
    others = labels_of(path, ColumnSettings(uncertain="one", blank="zero"))
    assert others.targets.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def test_a_column_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "image_name,x,y\na,1,\nb,0,\n")

    with pytest.raises(LabelFileError, match=r"column 'y': nothing is known.*to zero"):
        labels_of(path, ColumnSettings(blank="ignore"))


def test_a_word_for_no_label_is_no_label(tmp_path: Path) -> None:
    path = written(tmp_path, "image_name,tags\na,mass\nb,No Finding\nc,mass|edema\n")
    settings = DataSettings(labels=path, images=tmp_path, none="No Finding")

    assert tags(read_label_file(path, settings)) == {
        "a": {"mass"}, "b": set(), "c": {"mass", "edema"}
    }  # fmt: skip
    with pytest.raises(LabelFileError, match=r"data\.none: .*did you mean 'No Finding'"):
        read_label_file(path, settings.model_copy(update={"none": "no finding"}))


def test_lists_name_the_images_of_each_part(tmp_path: Path) -> None:
    rows = "".join(f"images/p{at}.png,x\n" for at in range(6))
    path = written(tmp_path, f"image_name,tags,split\n{rows}".replace(",x", ",x,train"))
    (tmp_path / "test.txt").write_text("p1.png\nP3.PNG\n")
    (tmp_path / "val.txt").write_text("p5\n\n")
    lists = SplitSettings(test=tmp_path / "test.txt", validation=tmp_path / "val.txt")

    table = labels_of(path, split=lists)

    assert table.parts == ("train", "test", "train", "test", "train", "validation")
    (tmp_path / "train.txt").write_text("p0\np2\n")
    with pytest.raises(LabelFileError, match=r"1 of 6 images are in no list .*'images/p4.png'"):
        labels_of(path, split=lists.model_copy(update={"train": tmp_path / "train.txt"}))
    (tmp_path / "val.txt").write_text("p1\n")
    with pytest.raises(LabelFileError, match=r"'p1.png' is in the list for test and .* validation"):
        labels_of(path, split=lists)
    (tmp_path / "val.txt").write_text("p7\n")
    with pytest.raises(LabelFileError, match=r"val.txt: 1 of 1 images are not in .*'p7'"):
        labels_of(path, split=lists)


LONG = "é" * 100_000


@pytest.mark.parametrize(
    "content",
    [
        f"image_name,tags\n../{LONG},x\n",
        f"image_name,x\na,{LONG}\n",
        f"image_name,{LONG}\na,2\n",
        f"image_name,tags\na,x,{LONG}\n",
        f"image_name,tags,split\na,x,{LONG}\n",
        f"image_name,tags,{LONG},{LONG}\na,x,y,z\n",
        f"{LONG},{LONG[:-1]}\na,x\n",
        ",".join(f"c{at}" for at in range(30_000)) + "\n",
        json.dumps({"image_name": "a", "tags": {"x": LONG}}),
        json.dumps({"image_name": [LONG], "tags": ""}),
        json.dumps([LONG]),
        json.dumps({LONG: 1}, indent=1),
        '{"image_name": "a", "' + LONG + '": 1, "' + LONG + '": 2}',
        f"image_name,tags\na,\x07{LONG}\n",
        f"image_name,tags\n{LONG},x\n{LONG},y\n",
        f"image_name,tags\na,\"['x', {LONG}]\"\n",
        f"image_name,tags\na,{' '.join(f'c{at}' for at in range(5000))}\na,x\n",
    ],
)
def test_no_message_repeats_a_whole_file(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)

    with pytest.raises(LabelFileError) as caught:
        labels_of(path)
    assert len(str(caught.value)) < 1000 + len(str(path))
