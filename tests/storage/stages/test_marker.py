"""The file that identifies a location of checkpoints, when it is damaged or no file at all."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from tests.hostile_pickles import FORMS, calls, damaged

VALID = json.dumps({"id": str(UUID(int=2**127 + 1))}).encode()

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.uuids().map(str),
    lambda values: st.lists(values) | st.dictionaries(st.text() | st.just("id"), values),
    max_leaves=8,
)
JSON = VALUES | st.fixed_dictionaries({"id": VALUES})
CONTENTS = (
    st.binary()
    | damaged(VALID)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-16"))
    | JSON.map(pickle.dumps)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFiles:
    """A location with a marker."""
    files = CheckpointFiles(str(tmp_path_factory.mktemp("place")), "0123456789abcdef")
    assert files.make_marker() == files.read_marker()
    files.check()
    return files


def marker_of(files: CheckpointFiles) -> Path:
    (marker,) = Path(files.place).rglob("*.json")
    return marker


def refusal(look: Callable[[], object]) -> OSError | None:
    try:
        look()
    except OSError as error:
        return error
    return None


@given(content=CONTENTS)
@example(content=b"")
@example(content=b"[" * 9999)
@example(content=b'{"id": "../x"}')
@example(content=b'{"id": 3}')
@example(content=b"9" * 9999)
def test_a_damaged_marker_is_named_with_the_remedy(content: bytes, place: CheckpointFiles) -> None:
    marker = marker_of(place)
    marker.write_bytes(content)
    for look in (place.read_marker, place.check):
        error = refusal(look)
        if error is None:
            assert str(UUID(json.loads(content)["id"])) == place.read_marker()
        else:
            assert error.filename == str(marker)
            assert "remove this file" in str(error.strerror)


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
def test_a_marker_never_runs_code(
    form: Callable[[bytes, bytes, bytes], bytes], place: CheckpointFiles, tmp_path: Path
) -> None:
    for call in calls(str(tmp_path / "ran")):
        marker_of(place).write_bytes(form(*(part.encode() for part in call)) + b".")
        with pytest.raises(OSError, match="remove this file"):
            place.read_marker()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
    ],
    ids=["folder", "pipe", "device", "link to itself"],
)
def test_what_is_no_file_is_refused_at_once_and_named(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    files = CheckpointFiles(str(tmp_path), "0123456789abcdef")
    files.make_marker()
    marker = marker_of(files)
    marker.unlink()
    make(marker)
    error = refusal(files.read_marker)
    assert error is not None
    assert error.filename == str(marker)
