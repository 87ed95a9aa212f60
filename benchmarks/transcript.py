"""Searches the demo as the README says, and compares what is printed with what the README shows.

``python -m benchmarks.transcript`` (``make docs-check``) fails if lines, columns or words differ;
numbers and settings may, since they depend on the machine and on which worker is free first.
``--write`` puts the new output into the README.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
TRIALS = 40
_SHOWN = re.compile(r"(?<=^```\n)\[40/40\] .*?(?=^```$)", re.MULTILINE | re.DOTALL)
# The last trial may have paused, and what was verified depends on what was found.
_COMPARED = re.compile(r"The best settings of.*?^The baseline[^\n]*", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\b(tinycnn|tinyresnet)_\d+\b|\b(weighted_|focal_)?bce\b")
_TIME = re.compile(r"\d+ (min|s|h)\b( \d+ s\b)?")


def main() -> None:
    """Searches, and compares or writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the output into the README")
    arguments = parser.parse_args()
    page = README.read_text()
    printed = ending(searched())
    if arguments.write:
        README.write_text(_SHOWN.sub(lambda _: printed, page, count=1))
        print(f"wrote what a search ended with to {README.name}")
    elif (now := shape(printed)) != shape(shown(page)):
        print(
            f"{README.name} is out of date; a search of the demo ends like this now:\n\n{printed}"
        )
        print(
            f"Compared without numbers and names:\n\n{now}\n\nin place of\n\n{shape(shown(page))}"
        )
        raise SystemExit("remedy: python -m benchmarks.transcript --write")
    else:
        print(f"{README.name} shows what a search of the demo ends with")


def searched() -> str:
    """Searches the demo in a folder and with a database of its own; returns what was printed."""
    with tempfile.TemporaryDirectory(prefix="canopy-transcript-") as folder:
        environment = {**os.environ, "CANOPY_HOME": str(Path(folder) / "state"), "COLUMNS": "120"}
        environment.pop("DATABASE_URL", None)

        def canopy(*arguments: str) -> str:
            command = [sys.executable, "-m", "canopy_search", *arguments]
            return subprocess.run(
                command, env=environment, cwd=folder, check=True, text=True, stdout=subprocess.PIPE
            ).stdout

        try:
            return canopy("search", "--trials", str(TRIALS))
        finally:
            canopy("db", "stop")


def ending(output: str) -> str:
    """Returns what the README shows of a search's output: from the last trial to the last word.

    Raises:
        ValueError: the output has no such lines.
    """
    lines = [line.rstrip() for line in output.splitlines()]
    first = max((at for at, line in enumerate(lines) if line.startswith("[40/40]")), default=None)
    spent = next((at for at, line in enumerate(lines) if "reported epochs" in line), None)
    if first is None or spent is None:
        raise ValueError(f"a search of {TRIALS} trials does not end as it did:\n{output}")
    last = lines.index("", spent) if "" in lines[spent:] else len(lines)
    return "\n".join(lines[first:last]) + "\n"


def shown(page: str) -> str:
    """Returns what the README shows.

    Raises:
        ValueError: it shows no search.
    """
    found = _SHOWN.search(page)
    if found is None:
        raise ValueError(f"{README.name} shows no search that ends with [40/40]")
    return found[0]


def shape(text: str) -> str:
    """Returns a text without numbers, names of settings, and widths of columns."""
    compared = _COMPARED.search(text)
    plain = _TIME.sub("TIME", _NAME.sub("NAME", compared[0] if compared else ""))
    plain = re.sub(r"[\d.,]*\d", "#", plain)
    lines = [" ".join(re.sub("─+", "─", line).split()) for line in plain.splitlines()]
    return "\n".join(line for at, line in enumerate(lines) if not at or line != lines[at - 1])


if __name__ == "__main__":
    main()
