"""The file that identifies a location of checkpoints, when it is damaged."""

from pathlib import Path

import pytest

from canopy_search.storage.stages.checkpoint_files import CheckpointFiles


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"[]", b"null", b'{"id": 3}', b'{"id": "../x"}', b"[" * 9999]
)
def test_a_damaged_marker_is_named_with_the_remedy(content: bytes, tmp_path: Path) -> None:
    files = CheckpointFiles(str(tmp_path), "0123456789abcdef")
    place_id = files.make_marker()
    assert files.read_marker() == place_id
    files.check()
    (marker,) = tmp_path.rglob("*.json")

    marker.write_bytes(content)

    for look in (files.read_marker, files.check):
        with pytest.raises(OSError, match="remove this file") as raised:
            look()
        assert raised.value.filename == str(marker)
