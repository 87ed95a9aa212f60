import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from canopy_search.storage.postgres.postmaster import find_postmaster, living, recorded_pid


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_no_file(tmp_path: Path) -> None:
    assert recorded_pid(tmp_path) is None
    assert find_postmaster(tmp_path / "missing") is None


@given(content=st.binary(max_size=40))
@example(content=b"")
@example(content=b"0\n")
@example(content=b"-1\n")
@example(content=b"99999999999999999999999\n")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_is_survived(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "postmaster.pid").write_bytes(content)
    pid = recorded_pid(tmp_path)
    assert pid is None or 0 < pid < 2**31
    assert find_postmaster(tmp_path) is None


def test_another_program(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{sleeper.pid}\n/somewhere\n")
    assert recorded_pid(tmp_path) == sleeper.pid
    assert living(sleeper.pid) is not None
    assert find_postmaster(tmp_path) is None


def test_another_program_in_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"], cwd=tmp_path) as process:
        (tmp_path / "postmaster.pid").write_text(f"{process.pid}\n")
        assert find_postmaster(tmp_path) is None
        process.kill()


def test_program_of_that_name_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "postgres").symlink_to("/bin/sleep")
    with subprocess.Popen([tmp_path / "postgres", "600"], cwd="/") as process:
        (tmp_path / "postmaster.pid").write_text(f"{process.pid}\n")
        assert find_postmaster(tmp_path) is None
        process.kill()


def test_zombie_is_not_living(sleeper: subprocess.Popen[bytes]) -> None:
    assert living(sleeper.pid) is not None
    sleeper.kill()
    while living(sleeper.pid):
        pass
    assert sleeper.returncode is None
    assert living(sleeper.pid) is None
