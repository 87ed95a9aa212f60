from pathlib import Path

import pytest

from canopy_search.training.data.labels.columns import Given, Guess, guess_columns
from canopy_search.training.data.labels.rows import read_rows
from canopy_search.training.errors import LabelFileError
from canopy_search.training.settings import ColumnSettings


def guess(folder: Path, content: str, *files: str, given: Given | None = None) -> Guess:
    """What is guessed of a label file beside a folder of such files."""
    for name in files:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    labels = folder / "labels.csv"
    labels.write_text(content)
    return guess_columns(read_rows(labels), folder / "images", given or Given())


def test_the_usual_layout_needs_no_guess(tmp_path: Path) -> None:
    found = guess(tmp_path, "image_name,tags\na,x y\nb,x\n", "a.jpg", "b.jpg")

    assert found == Guess(ColumnSettings(), None, None)


def test_the_image_column_is_the_one_whose_values_are_files(tmp_path: Path) -> None:
    content = "id,Image Index,Finding Labels,Patient ID\n1,p/a.png,x|y,7\n2,p/b.png,x,7\n"

    found = guess(tmp_path, content, "p/a.png", "p/b.png")

    assert found.columns == ColumnSettings(image="Image Index", tags="Finding Labels")
    assert found.group == "Patient ID"


def test_columns_of_zero_and_one_are_labels_and_the_others_are_not(tmp_path: Path) -> None:
    content = "path,sea,road,age,Set\na,0,1,30,train\nb,1,0,40,Val\n"

    found = guess(tmp_path, content, "a.jpg", "b.jpg")

    assert found.columns == ColumnSettings(image="path", labels=("sea", "road"))
    assert found.split == "Set"
    assert found.group is None


def test_labels_are_not_listed_where_all_other_columns_are_labels(tmp_path: Path) -> None:
    found = guess(tmp_path, "image_name,sea,road\na,0,1\n", "a.jpg")

    assert found.columns == ColumnSettings()


def test_a_group_for_each_image_is_no_group(tmp_path: Path) -> None:
    found = guess(tmp_path, "image_name,tags,group\na,x,1\nb,y,2\n", "a.jpg", "b.jpg")

    assert found.group is None


def test_what_the_user_names_is_taken(tmp_path: Path) -> None:
    content = "image_name,tags,what,who,part\na,x,y,1,train\n"
    given = Given(image="image_name", tags="what", split="part", group="who")

    found = guess(tmp_path, content, "a.jpg", given=given)

    assert found == Guess(ColumnSettings(tags="what"), "part", "who")


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
