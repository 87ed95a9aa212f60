import os
from pathlib import Path

import numpy as np
import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.images.digests import image_digests
from canopy_search.training.data.images.skipped import check_skipped, skipped_text
from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.data.labels.locating import locate_images
from canopy_search.training.errors import ImageError, LabelFileError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def table(*names: str, targets: list[int] | None = None) -> LabelTable:
    """A label file with one label whose first image is in row 2."""
    return LabelTable(
        path=Path("labels.csv"),
        layout="",
        image_names=names,
        labels=("x",),
        targets=np.array(targets or [1] * len(names), np.uint8)[:, None],
        row_numbers=tuple(range(2, len(names) + 2)),
    )


def test_images_are_found_with_and_without_extension_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.JPEG", "c.PNG", "v1.2.png", "sub/d.Jpg", "a.txt", "e.JPG", "f.tif")

    found = locate_images(table("c", "a.jpg", "v1.2", "b", "sub/d", "e.jpg", "f"), tmp_path)

    names = ["c.PNG", "a.jpg", "v1.2.png", "b.JPEG", "sub/d.Jpg", "e.JPG", "f.tif"]
    assert found.paths == [tmp_path / name for name in names]
    assert found.skipped == []


def test_missing_images_are_left_out_with_their_rows(tmp_path: Path) -> None:
    touch(tmp_path, "x0.jpg", "x1.txt", "x4.jpg")
    (tmp_path / "x2.jpg").mkdir()
    (tmp_path / "x3.jpg").symlink_to(tmp_path / "gone.jpg")

    found = locate_images(table(*(f"x{at}" for at in range(5)), "no/x", "y" * 300), tmp_path)

    assert found.table.image_names == ("x0", "x4")
    assert found.table.row_numbers == (2, 6)
    assert found.paths == [tmp_path / "x0.jpg", tmp_path / "x4.jpg"]
    assert [(image.row, image.kind) for image in found.skipped] == [
        (row, "broken link" if row == 5 else "missing") for row in (3, 4, 5, 7, 8)
    ]


def test_a_missing_folder_is_named(tmp_path: Path, words: SnapshotAssertion) -> None:
    with pytest.raises(ImageError, match="train-jpg: ") as caught:
        locate_images(table("a"), tmp_path / "train-jpg")
    assert str(caught.value) == words


def test_a_name_that_fits_two_files_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png")

    with pytest.raises(ImageError, match=r"row 2: 'a' matches a\.jpg and a\.png"):
        locate_images(table("a"), tmp_path)
    assert locate_images(table("a.png"), tmp_path).paths == [tmp_path / "a.png"]


def test_two_names_for_one_file_count_once_or_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")

    found = locate_images(table("a", "a.jpg", "b"), tmp_path)

    assert found.table.image_names == ("a", "b")
    with pytest.raises(LabelFileError, match=r"rows 2 and 3: 'a' and 'a\.jpg' "):
        locate_images(table("a", "a.jpg", targets=[0, 1]), tmp_path)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_that_leads_outside_is_refused_and_one_inside_is_followed(
    tmp_path: Path, link: str, words: SnapshotAssertion
) -> None:
    images = tmp_path / "images"
    touch(tmp_path, "outside/secret.jpg", "images/inside/a.jpg")
    if link == "file":
        (images / "secret.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
        (images / "a.jpg").symlink_to(images / "inside" / "a.jpg")
        names = ("a", "secret")
    else:
        (images / "sub").symlink_to(tmp_path / "outside")
        (images / "alias").symlink_to(images / "inside")
        names = ("alias/a", "sub/secret")

    assert locate_images(table(names[0]), images).skipped == []
    assert locate_images(table(*names), images, follow_links=True).skipped == []
    with pytest.raises(ImageError, match="row 3: ") as caught:
        locate_images(table(*names), images)
    assert str(tmp_path / "outside") in str(caught.value)
    assert str(caught.value) == words


def test_a_folder_that_is_a_link_itself_is_what_the_user_named(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg")
    (tmp_path / "images").symlink_to(tmp_path / "real")

    assert locate_images(table("a"), tmp_path / "images").paths == [tmp_path / "real" / "a.jpg"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("caf\u00e9", "cafe\u0301.png"),
        ("cafe\u0301.png", "caf\u00e9.PNG"),
        ("scans\\a.png", "scans/a.png"),
        ("Scan_1.JPG", "scan_1.jpg"),
        ("a.jpg", "a.jpg.jpg"),
        ("a.jpg.jpg", "a.jpg"),
        ("a.jpeg", "a.jpg"),
        ("a.png", "images_003/images/a.png"),
        ("a", "deep/below/a.tif"),
    ],
)
def test_names_are_compared_as_by_eye(tmp_path: Path, name: str, file: str) -> None:
    touch(tmp_path, file, "images_001/images/b.png")

    assert locate_images(table(name), tmp_path).paths == [tmp_path / file]


def test_a_name_in_two_folders_is_ambiguous_and_another_kind_of_file_is_not_meant(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "one/a.png", "two/a.png", "photos/b.jpg", "masks/b.png", "masks/c.png")

    with pytest.raises(ImageError, match=r"'a' matches one/a.png and two/a.png"):
        locate_images(table("a"), tmp_path)
    found = locate_images(table("b.jpg", "c.jpg"), tmp_path)
    assert found.paths == [tmp_path / "photos/b.jpg"]
    assert [image.image_name for image in found.skipped] == ["c.jpg"]


def test_a_link_that_is_found_below_may_not_leave_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "secret.png", "images/sub/b.png")
    (tmp_path / "images" / "sub" / "a.png").symlink_to(tmp_path / "secret.png")

    with pytest.raises(ImageError, match="points outside"):
        locate_images(table("a"), tmp_path / "images")
    found = locate_images(table("a"), tmp_path / "images", follow_links=True)
    assert found.paths == [tmp_path / "images" / "sub" / "a.png"]


def test_names_are_looked_for_behind_links_if_these_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "store/a.png", "images/b.png")
    (tmp_path / "images" / "part_1").symlink_to(tmp_path / "store")

    (left_out,) = locate_images(table("a", "b"), tmp_path / "images").skipped
    found = locate_images(table("a", "b"), tmp_path / "images", follow_links=True)

    assert "part_1 is a symbolic link" in left_out.detail
    assert "data.follow_links: true" in left_out.detail
    assert found.paths == [tmp_path / "images" / "part_1" / "a.png", tmp_path / "images" / "b.png"]


def test_a_link_without_content_says_how_to_fetch_it(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    (tmp_path / "a.png").symlink_to(".git/annex/objects/x")

    skipped = locate_images(table("a"), tmp_path).skipped

    with pytest.raises(ImageError) as caught:
        check_skipped(skipped, 1, "labels.csv", allow_missing=True)
    assert str(caught.value) == words


def test_a_link_to_a_folder_that_contains_it_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/deep/a.png")
    (tmp_path / "images" / "deep" / "up").symlink_to(tmp_path)

    assert len(locate_images(table("a"), tmp_path / "images").paths) == 1
    with pytest.raises(ImageError, match=r"deep/up: a symbolic link to a folder that contains it"):
        locate_images(table("a"), tmp_path / "images", follow_links=True)


def test_links_to_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.png").symlink_to(tmp_path / "pipe")
    (tmp_path / "b.png").symlink_to("/dev/zero")

    found = locate_images(table("a", "b"), tmp_path, follow_links=True)

    assert image_digests([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "index") == [None] * 2
    assert len(found.paths) == 2  # told as unreadable, with those that cannot be decoded


def test_leading_folders_that_all_names_share_and_no_file_has_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "train/p1/a.jpg", "train/p2/a.jpg")

    found = locate_images(table(*(f"data/v1/train/p{at}/a.jpg" for at in (1, 2, 3))), tmp_path)

    assert found.paths == [tmp_path / "train/p1/a.jpg", tmp_path / "train/p2/a.jpg"]
    for names in (("site1/p1/a.jpg", "site2/p1/a.jpg"), ("p1/a.jpg", "p2/a.jpg")):
        assert locate_images(table(*names), tmp_path / "train" / "p1").paths == []
        assert len(locate_images(table(*names), tmp_path).skipped) == 2


def test_folders_that_were_not_downloaded_are_named(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images_{at:03d}/images/{at}.png" for at in (1, 2, 4, 7)))

    skipped = locate_images(table(*(f"{at}.png" for at in range(1, 9))), tmp_path).skipped

    assert {image.detail for image in skipped} == {
        "the others are in the folders images_001 to images_007, without images_003, images_005, "
        "images_006"
    }
    assert skipped_text(skipped, 8).endswith("images_005, images_006")
    assert "" in {image.detail for image in locate_images(table("a"), tmp_path).skipped}
