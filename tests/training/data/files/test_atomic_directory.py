from pathlib import Path

import pytest

from canopy_search.training.data.files.atomic_directory import build_atomically


def has_content(folder: Path) -> bool:
    return (folder / "content").exists()


def write_content(folder: Path) -> None:
    (folder / "content").write_text("built")


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    folder = tmp_path / "shelf" / "folder"
    builds = []

    def build(partial: Path) -> None:
        builds.append(partial)
        assert not folder.exists()
        write_content(partial)

    build_atomically(folder, has_content, build)
    build_atomically(folder, has_content, build)

    assert len(builds) == 1
    assert (folder / "content").read_text() == "built"


def test_an_incomplete_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "rubbish").touch()

    build_atomically(folder, has_content, write_content)

    assert [path.name for path in folder.iterdir()] == ["content"]


def test_a_failed_build_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def fail(partial: Path) -> None:
        write_content(partial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_atomically(folder, has_content, fail)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]

    build_atomically(folder, has_content, write_content)
    assert has_content(folder)


def test_leftovers_of_killed_builders_are_removed(tmp_path: Path) -> None:
    for name in ("folder.partial", "another.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()

    build_atomically(tmp_path / "folder", has_content, write_content)

    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "folder"]
