import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PredictionError
from canopy_search.search.workflows.predict import find_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody stands in a folder with images, other files and links."""
    for name in ("in/b.jpg", "in/a.PNG", "in/notes.txt", "in/deep/c.webp", "out/d.jpg", "e[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "in" / "to_a.png").symlink_to("a.PNG")
    (tmp_path / "in" / "to_deep").symlink_to("deep")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "to_d.jpg").symlink_to(tmp_path / "out" / "d.jpg")
    (tmp_path / "linked" / "to_out").symlink_to(tmp_path / "out")
    (tmp_path / "none").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str) -> list[str]:
    return [image.name for image in find_images(arguments, Path("home"))]


@pytest.mark.parametrize("spelling", ["in", "in/", "./in", "none/../in"])
def test_a_folder_is_all_images_below_it(folder: Path, spelling: str) -> None:
    assert names(spelling) == ["a.PNG", "b.jpg", "deep/c.webp", "to_a.png"]
    assert names(str(folder / "in")) == names(spelling)


def test_a_folder_that_is_a_link_was_meant(folder: Path) -> None:
    assert names("linked/to_out") == ["d.jpg"]


@pytest.mark.parametrize("link", ["to_d.jpg", "to_out"])
def test_a_link_out_of_a_folder_is_refused_unless_links_are_followed(
    folder: Path, link: str
) -> None:
    for other in {"to_d.jpg", "to_out"} - {link}:
        (folder / "linked" / other).unlink()

    with pytest.raises(PredictionError, match=f"linked/{link} is a symbolic .*--follow-links"):
        names("linked")
    (image,) = find_images(["linked"], folder, follow_links=True)
    assert image.path.samefile(folder / "out" / "d.jpg")


def test_beside_others_a_folder_s_images_keep_its_name(folder: Path) -> None:
    assert names("out", "in/deep") == ["out/d.jpg", "in/deep/c.webp"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.jpg", ["in/b.jpg"]),
        ("linked/*", ["linked/to_d.jpg"]),
        ("in/*", ["in/a.PNG", "in/b.jpg", "in/to_a.png"]),
        ("**/[a-c].*", ["in/a.PNG", "in/b.jpg", "in/deep/c.webp"]),
        ("e[[]1].jpg", ["e[1].jpg"]),
    ],
)
def test_a_glob_is_the_images_that_it_matches(
    folder: Path, pattern: str, expected: list[str]
) -> None:
    assert names(pattern) == expected


def test_a_file_stands_for_itself_whatever_its_name(folder: Path) -> None:
    assert names("e[1].jpg", "in/notes.txt") == ["e[1].jpg", "in/notes.txt"]


def test_an_image_counts_once_however_it_is_spelled(folder: Path) -> None:
    spelled = ("./in/b.jpg", "in/b.jpg", "in/deep/../b.jpg", str(folder / "in" / "b.jpg"), "in/*")

    assert names(*spelled) == ["./in/b.jpg", "in/a.PNG", "in/to_a.png"]


def test_a_name_that_is_no_utf_8_can_be_written(folder: Path) -> None:
    (folder / "none" / os.fsdecode(b"\xff.jpg")).write_bytes(b"")

    assert names("none") == ["\\xff.jpg"]


@pytest.mark.parametrize(
    "argument",
    ["absent.jpg", "none", "in/*.gif", "in/*.txt", ""],
    ids=["file", "folder", "glob", "no images", "empty"],
)
def test_what_stands_for_nothing_is_named(
    folder: Path, argument: str, words: SnapshotAssertion
) -> None:
    with pytest.raises(PredictionError) as error:
        find_images(["in", argument], folder)
    assert str(error.value).startswith(f"{argument}: " if argument else "an argument")
    assert str(error.value) == words


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError, match="deep"):
        find_images(["in"], folder)


def test_parquet_is_the_images_that_it_contains(folder: Path) -> None:
    images = [{"bytes": content, "path": None} for content in (b"\xff\xd8\xff", b"BM")]
    for name in ("data/train-0.parquet", "in/labels.parquet"):
        (folder / name).parent.mkdir(exist_ok=True)
        parquet.write_table(pa.table({"image": images}), folder / name)

    assert names("data") == ["train-0_0000000.jpg", "train-0_0000001.bmp"]
    assert names("data/train-0.parquet") == names("data")
    assert names("in") == ["a.PNG", "b.jpg", "deep/c.webp", "to_a.png"]
