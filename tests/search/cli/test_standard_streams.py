"""Standard streams that are closed or full, through the command."""

import subprocess
import sys

import pytest

HELP = f"{sys.executable} -m canopy_search --help"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-", "<&-"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    ended = shell(f"{HELP} {closed}")

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_next_file_does_not_become_standard_output() -> None:
    program = (
        "from canopy_search.search.cli.standard_streams import prepare_streams\n"
        "prepare_streams()\n"
        "print(open('/dev/zero').fileno() > 2, file=__import__('sys').stderr)"
    )

    ended = shell(f'{sys.executable} -c "{program}" >&- <&-')

    assert ended.stderr == "True\n"


def test_a_full_standard_output_is_named() -> None:
    ended = shell(f"{HELP} > /dev/full")

    assert ended.returncode == 1
    assert ended.stderr == "canopy: standard output: No space left on device; make room there\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    ended = shell(f"{HELP} | head -n 1")

    assert ended.stderr == ""
