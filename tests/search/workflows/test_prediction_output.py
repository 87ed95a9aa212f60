import os
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PredictionError
from canopy_search.search.workflows.predict import ImageFile, writable_output


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.pt"
    path.write_bytes(b"model")
    return path


@pytest.fixture
def image(tmp_path: Path) -> ImageFile:
    """Named by itself, an image may have any extension."""
    path = tmp_path / "scan.dat"
    path.write_bytes(b"image")
    return ImageFile("scan.dat", path)


def test_a_new_file_and_an_earlier_output_will_do(
    tmp_path: Path, model: Path, image: ImageFile
) -> None:
    (tmp_path / "earlier.csv").write_text("image_name,tags\n")

    for name in ("new/tags.csv", "earlier.csv", "no_extension"):
        assert writable_output(tmp_path / name, model, [image]) == tmp_path / name
    assert not (tmp_path / "new" / "tags.csv").exists()
    assert (tmp_path / "earlier.csv").read_text() == "image_name,tags\n"


def test_of_a_link_it_is_what_it_points_to(tmp_path: Path, model: Path, image: ImageFile) -> None:
    (tmp_path / "link.csv").symlink_to("deep/tags.csv")

    output = writable_output(tmp_path / "link.csv", model, [image])

    assert output == tmp_path / "deep" / "tags.csv"


@pytest.mark.parametrize("name", ["train_0.jpg", "absent.PNG", "to_train_0.csv"])
def test_a_glob_behind_output_costs_no_photograph(
    tmp_path: Path, model: Path, image: ImageFile, name: str
) -> None:
    (tmp_path / "train_0.jpg").write_bytes(b"photograph")
    (tmp_path / "to_train_0.csv").symlink_to("train_0.jpg")

    with pytest.raises(PredictionError, match=rf"--output .*{name}: .*then the globs"):
        writable_output(tmp_path / name, model, [image])


@pytest.mark.parametrize("name", ["m.pt", "to_m", "scan.dat"])
def test_what_is_read_is_not_written(
    tmp_path: Path, model: Path, image: ImageFile, name: str
) -> None:
    (tmp_path / "to_m").symlink_to(model)

    with pytest.raises(PredictionError, match=rf"--output .*{name}: .*found an input"):
        writable_output(tmp_path / name, model, [image])


def test_a_folder_is_no_file(tmp_path: Path, model: Path, words: SnapshotAssertion) -> None:
    with pytest.raises(PredictionError) as error:
        writable_output(tmp_path, model, [])
    assert str(error.value) == words


@pytest.mark.parametrize("name", ["pipe", "to_pipe"])
def test_a_device_or_pipe_stays_what_it_is(
    tmp_path: Path, model: Path, name: str, words: SnapshotAssertion
) -> None:
    # To replace it, as files are replaced, would make /dev/null a file for everyone.
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")

    with pytest.raises(PredictionError, match=f"--output .*{name}: ") as error:
        writable_output(tmp_path / name, model, [])
    assert str(error.value) == words
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, model: Path) -> None:
    with pytest.raises(OSError, match=r"m\.pt"):
        writable_output(model / "tags.csv", model, [])
