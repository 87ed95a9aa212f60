"""Whatever stands in a configuration, the command ends at once, in words, and writes nothing."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.examples import examples, pinned
from tests.hostile_yaml import (
    NASTIEST_BYTES,
    NASTIEST_DOCUMENTS,
    hostile_bytes,
    hostile_documents,
)
from tests.integration.in_process import InProcess

NOWHERE = "postgresql://canopy:hunter2@127.0.0.1:9/canopy"
LONG_S = 3600  # thousands of examples on a busy machine
LONGEST = 1500  # all backbones are named; values are shortened
HARMFUL = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of characters, line breaks

SETTINGS = examples(
    few=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

Run = Callable[[str | bytes, bool], None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    parent = tmp_path_factory.mktemp("hostile")
    folder = parent / "user"
    (parent / "sibling").mkdir()
    (parent / "sibling" / "precious").write_text("precious")
    (folder / "pictures").mkdir(parents=True)
    user = InProcess(folder, NOWHERE)
    # The first command imports torch, which takes longer than any example.
    (folder / "canopy.yaml").write_text("data: {labels: absent.csv, images: pictures}\n")
    user.run("train", "canopy.yaml", status=2)

    def run_(content: str | bytes, search: bool) -> None:
        data = content if isinstance(content, bytes) else content.encode(errors="replace")
        (folder / "canopy.yaml").write_bytes(data)
        before = _listing(parent)

        # Training looks at the data at once, searching at the space and then at the database.
        arguments = ["search"] if search else ["train", "canopy.yaml"]
        ended = user.run(*arguments, status=None)

        assert ended.returncode in {1, 2}
        assert ended.stdout == ""
        lines = ended.stderr.splitlines()
        assert lines
        assert lines[0].startswith("canopy: ")
        for line in lines:
            assert not HARMFUL & {unicodedata.category(letter) for letter in line}, ended.stderr
            assert len(line) < LONGEST, ended.stderr
            assert "hunter2" not in line
        # A refusal that exits with 1 is the server's, which only a right configuration reaches.
        assert ended.returncode == 2 or "127.0.0.1" in ended.stderr, ended.stderr
        assert _listing(parent) == before

    return run_


@SETTINGS
@pinned("document", NASTIEST_DOCUMENTS[::2], search=True)
@pinned("document", NASTIEST_DOCUMENTS[1::2], search=False)
@given(document=hostile_documents(), search=st.booleans())
@pytest.mark.timeout(LONG_S)
def test_a_document_with_anything_wrong_is_refused_in_words(
    run: Run, document: str, search: bool
) -> None:
    run(document, search)


@SETTINGS
@pinned("content", NASTIEST_BYTES, search=True)
@given(content=hostile_bytes(), search=st.booleans())
@pytest.mark.timeout(LONG_S)
def test_bytes_that_may_be_no_document_are_refused_in_words(
    run: Run, content: bytes, search: bool
) -> None:
    run(content, search)


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))
