from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.labels.columns import Given, Guess, guess_columns, none_word
from canopy_search.training.data.labels.label_file import read_label_file
from canopy_search.training.data.labels.parts import Values
from canopy_search.training.data.layouts.recognise import read_rows
from canopy_search.training.errors import LabelFileError
from canopy_search.training.settings import ColumnSettings, DataSettings, SplitSettings


def guess(folder: Path, content: str, *files: str, given: Given | None = None) -> Guess:
    """What is guessed of a label file beside a folder of such files."""
    for name in files:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    labels = folder / "labels.csv"
    labels.write_text(content)
    return guess_columns(read_rows(labels), folder / "images", given or Given())


def settings(folder: Path, found: Guess) -> DataSettings:
    return DataSettings(
        labels=folder / "labels.csv",
        images=folder / "images",
        columns=found.columns,
        split=found.split,
    )


def guessed(columns: ColumnSettings, column: str | None = None, group: str | None = None) -> Guess:
    return Guess("table", columns, SplitSettings(column=column, group=group))


def test_the_usual_layout_needs_no_guess(tmp_path: Path) -> None:
    found = guess(tmp_path, "image_name,tags\na,x y\nb,x\n", "a.jpg", "b.jpg")

    assert found == guessed(ColumnSettings())


def test_the_image_column_is_the_one_whose_values_are_files(tmp_path: Path) -> None:
    content = "id,Image Index,Finding Labels,Patient ID\n1,p/a.png,x|y,7\n2,p/b.png,x,7\n"

    found = guess(tmp_path, content, "p/a.png", "p/b.png")

    assert found.columns == ColumnSettings(image="Image Index", tags="Finding Labels")
    assert found.split.group == "Patient ID"


def test_columns_of_zero_and_one_are_labels_and_the_others_are_not(tmp_path: Path) -> None:
    content = "path,sea,road,age,Set\na,0,1,30,train\nb,1,0,40,Val\n"

    found = guess(tmp_path, content, "a.jpg", "b.jpg")

    assert found.columns == ColumnSettings(image="path", labels=("sea", "road"))
    assert found.split.column == "Set"
    assert found.split.group is None


def test_labels_are_not_listed_where_all_other_columns_are_labels(tmp_path: Path) -> None:
    found = guess(tmp_path, "image_name,sea,road\na,0,1\n", "a.jpg")

    assert found.columns == ColumnSettings()


def test_a_group_for_each_image_is_no_group(tmp_path: Path) -> None:
    found = guess(tmp_path, "image_name,tags,group\na,x,1\nb,y,2\n", "a.jpg", "b.jpg")

    assert found.split.group is None


def test_what_the_user_names_is_taken(tmp_path: Path) -> None:
    content = "image_name,tags,what,who,part\na,x,y,1,train\n"
    given = Given(image="image_name", tags="what", split="part", group="who")

    found = guess(tmp_path, content, "a.jpg", given=given)

    assert found == guessed(ColumnSettings(tags="what"), column="part", group="who")


@pytest.mark.parametrize(
    ("cells", "uncertain", "blank"),
    [
        ("1 0 1 0", None, None),
        ("1 -1 1 -1", "zero", None),  # CelebA
        ("1 0 -1 0", "ignore", None),
        ("1 0 _ 0", None, "ignore"),
        ("1 _ _ 1", None, "zero"),  # only what is present is written
        ("1.0 0.0 -1.0 _", "ignore", "ignore"),
        ("1 -1 _ _", "ignore", "zero"),
        ("True False nan None", None, "ignore"),
    ],
)
def test_the_meaning_of_other_cells_than_0_and_1_follows_from_all_of_them(
    tmp_path: Path, cells: str, uncertain: str | None, blank: str | None
) -> None:
    rows = [f"{at},{cell.strip('_')}" for at, cell in enumerate(cells.split())]

    found = guess(tmp_path, "\n".join(["image_name,mass", *rows]), "0.png", "1.png")

    assert found.columns == ColumnSettings(uncertain=uncertain, blank=blank)


def test_one_odd_cell_never_makes_a_label_column_disappear(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    rows = [f"{at},{at % 2},{at % 3 // 2}" for at in range(20)]
    rows[7] = "7,2,0"
    content = "\n".join(["image_name,mass,edema", *rows])

    with pytest.raises(LabelFileError, match=r"row 9: column 'mass': found '2'") as caught:
        guess(tmp_path, content, "0.png")
    assert str(caught.value).replace(str(tmp_path), "TMP_PATH") == words
    without = guess(tmp_path, content, "0.png", given=Given(ignored=("mass",)))
    assert without.columns.labels == ("edema",)


def test_a_column_of_probabilities_is_a_question(tmp_path: Path) -> None:
    content = "\n".join(
        ["image_name,mass,edema", *(f"{at},{at % 2},{at / 20}" for at in range(20))]
    )

    with pytest.raises(LabelFileError, match=r"row 3: column 'edema': found '0.05', but 20 of 20"):
        guess(tmp_path, content, "0.png")


@pytest.mark.parametrize("name", ["group", "scene", "id", "image_name", "case"])
def test_a_label_may_be_named_like_another_column(tmp_path: Path, name: str) -> None:
    content = f"file,{name},crack\na,0,1\nb,1,0\nc,1,1\n"

    found = guess(tmp_path, content, "a.png", "b.png")

    assert found == guessed(ColumnSettings(image="file", labels=found.columns.labels))
    assert found.columns.labels in {None, (name, "crack")}
    assert read_label_file(tmp_path / "labels.csv", settings(tmp_path, found)).labels == tuple(
        sorted([name, "crack"])
    )


@pytest.mark.parametrize("name", ["label", "tags", "class"])
def test_a_column_that_may_be_the_tags_or_a_label_is_a_question(tmp_path: Path, name: str) -> None:
    content = f"image_name,{name},crack\na,0,1\nb,1,0\n"

    with pytest.raises(LabelFileError, match=f"--tags-column {name}.*--tags-column none"):
        guess(tmp_path, content, "a.png")
    tags, labels = (
        guess(tmp_path, content, "a.png", given=Given(tags=given)) for given in (name, "none")
    )

    path = tmp_path / "labels.csv"
    assert read_label_file(path, settings(tmp_path, tags)).labels == ("0", "1")
    assert set(read_label_file(path, settings(tmp_path, labels)).labels) == {name, "crack"}


def test_names_that_begin_with_a_folder_of_another_machine_are_found(tmp_path: Path) -> None:
    names = [f"CheXpert-v1.0-small/train/p{at}/view1.jpg" for at in range(3)]
    content = "\n".join(["Path,x", *(f"{name},{at % 2}" for at, name in enumerate(names))])

    assert guess(tmp_path, content, "train/p0/view1.jpg", "train/p1/view1.jpg").columns.image == (
        "Path"
    )


@pytest.mark.parametrize(
    ("header", "cells", "values"),
    [
        ("split", "train_val train_val test", None),
        ("part", "training dev test", None),
        ("is_valid", "0 1 0", {"train": ("0",), "validation": ("1",)}),
        ("is_valid", "False True False", {"train": ("false",), "validation": ("true",)}),
        ("partition", "0 1 2", {"train": (0,), "validation": (1,), "test": (2,)}),
    ],
)
def test_a_split_in_other_words_is_recognised(
    tmp_path: Path, header: str, cells: str, values: object
) -> None:
    rows = [f"{at},x,{cell}" for at, cell in enumerate(cells.split())]

    found = guess(tmp_path, "\n".join([f"image_name,tags,{header}", *rows]), "0.png")

    assert (found.split.column, found.split.values) == (header, values)


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("fold", "0 1 2 3 4 0 1 2 3 4"),
        ("split", "a b a b a b"),
        ("split", "train test _ train test train"),
        ("is_test", "0 1 0 0 1 1"),
        ("Usage", "Training PublicTest PrivateTest Training Training Training"),
        ("origin", "train test other train test train"),
    ],
)
def test_a_split_that_is_not_understood_is_a_question(
    tmp_path: Path, header: str, cells: str
) -> None:
    rows = [f"{at},x,{cell.strip('_')}" for at, cell in enumerate(cells.split())]
    content = "\n".join([f"image_name,tags,{header}", *rows])

    with pytest.raises(LabelFileError, match="--split-column none") as caught:
        guess(tmp_path, content, "0.png")
    assert header in str(caught.value)
    assert guess(tmp_path, content, "0.png", given=Given(split="none")).split.column is None


def test_the_user_names_the_part_of_each_value(tmp_path: Path) -> None:
    rows = [f"{at},x,{at % 5}" for at in range(20)]
    content = "\n".join(["image_name,tags,fold", *rows])
    values: Values = {"train": ("0", "1", "2"), "validation": ("3",), "test": ("4",)}

    found = guess(tmp_path, content, "0.png", given=Given(values=values))

    assert (found.split.column, found.split.values) == ("fold", values)
    with pytest.raises(LabelFileError, match="'fold'"):
        guess(tmp_path, content, "0.png", given=Given(values={"train": ("0",), "test": ("4",)}))


def test_the_folder_that_most_names_are_in_is_suggested(tmp_path: Path) -> None:
    names = [f"images/{at}.png" for at in range(8)]
    for name in ("other/images/0.png", *names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_text("\n".join(["image_name,tags", *(f"{n},x" for n in names)]))

    with pytest.raises(LabelFileError) as caught:
        guess_columns(read_rows(tmp_path / "labels.csv"), tmp_path / "other" / "images", Given())
    assert f"try --images {tmp_path}, which has 8 of the first 8 names" in str(caught.value)


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        (["No Finding", "mass", "mass|edema"], "No Finding"),
        (["none", "mass", "edema"], "none"),
        (["no finding|mass", "mass", "edema"], None),
        (["clear", "mass", "edema"], None),
    ],
)
def test_the_word_for_no_label_is_recognised(
    tmp_path: Path, tags: list[str], word: str | None
) -> None:
    rows = [f"{at},{cell}" for at, cell in enumerate(tags)]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["image_name,tags", *rows, "9,edema|mass"]))

    found = none_word(read_label_file(path, DataSettings(labels=path, images=tmp_path)))

    assert found == word


@pytest.mark.parametrize(
    ("content", "given", "parts"),
    [
        ("image_name,tags\nz,x\n", Given(), ["no column names images", "'a.jpg'", "'z'"]),
        ("image_name,tags\nimages/a.jpg,x\n", Given(), ["try --images"]),
        ("image_name,age\na,30\n", Given(), ["no column of tags", "--tags-column"]),
        ("image_name,tags\na,x\n", Given(tags="tag"), ["no column 'tag'", "image_name, tags"]),
        ("image_name,tags\n", Given(), ["no images below the header"]),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(
    tmp_path: Path, content: str, given: Given, parts: list[str]
) -> None:
    with pytest.raises(LabelFileError) as caught:
        guess(tmp_path, content, "a.jpg", given=given)

    for part in parts:
        assert part in str(caught.value)
