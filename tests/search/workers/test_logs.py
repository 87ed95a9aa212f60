"""A worker's log: what cannot be written is lost, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.workers.logs import LogFile


@pytest.fixture
def notes() -> list[str]:
    return []


def test_lines_are_appended_at_once(tmp_path: Path, notes: list[str]) -> None:
    path = tmp_path / "logs" / "study" / "worker-1.log"
    for text in ("one\n", "zwölf \udcff\n"):
        print(text, end="", file=LogFile(path, notes.append))
    assert path.read_text() == "one\nzwölf \\udcff\n"
    assert notes == []


def test_a_full_disk_is_noted_once(notes: list[str], words: SnapshotAssertion) -> None:
    log = LogFile(Path("/dev/full"), notes.append)
    for number in range(3):
        print(number, file=log, flush=True)
    assert notes == words


def test_a_folder_that_cannot_be_made_is_noted_once(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("logs").write_text("a file")
    log = LogFile(Path("logs/study/worker-1.log"), notes.append)
    print("lost", file=log)
    assert notes == words


def test_output_goes_on_where_the_log_was_removed(tmp_path: Path) -> None:
    script = (
        "import os, shutil, sys; from pathlib import Path\n"
        "from canopy_search.search.workers.logs import LogFile\n"
        "path = Path(sys.argv[1], 'study', 'log')\n"
        "LogFile(path, print).replace_output()\n"
        "print('before'); shutil.rmtree(path.parent); print('after'); os.system('echo child')\n"
        "sys.stderr.write('warning')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr, [*tmp_path.iterdir()]) == ("", "", [])
