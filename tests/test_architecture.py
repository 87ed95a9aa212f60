"""docs/architecture.md says where code is: the picture, the rooms and both walks are the code's."""

import re
import sys
import threading
import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data
from tests.reading_docs import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PACKAGES = ("search", "dashboards", "training", "storage", "filestore")
STEP = re.compile(r"^\d+\. `([a-z_/]+\.py)` `(\w+)`", re.MULTILINE)
CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 16}
training: {epochs: 1, batch_size: 8, threads: 1}
search:
  study: planet
  trials: 1
  sampler: {name: grid}
  space: {backbone: [tinycnn_8], loss: [bce, focal_bce, weighted_bce]}
"""


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    return TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def walks(heading: str) -> list[list[tuple[str, str]]]:
    """The numbered lists of a section: (file, function) of each step."""
    parts = re.split(r"^1\. ", section(heading), flags=re.MULTILINE)[1:]
    return [STEP.findall(f"1. {part}") for part in parts]


def floors() -> dict[str, list[set[str]]]:
    """The layers of each package, as `make lint` has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {
        contract["containers"][0].rpartition(".")[2]: [
            set(layer.split(" | ")) for layer in contract["layers"]
        ]
        for contract in contracts["contracts"]
        if contract["type"] == "layers"
    }


def test_the_picture_shows_the_layers_that_lint_enforces() -> None:
    picture = section("The rooms").split("```")[1]
    drawn: dict[str, list[set[str]]] = {}
    columns: dict[int, str] = {}
    for line in picture.splitlines():
        cells = {m.start(): m.group() for m in re.finditer(r"\S+(?: \| \S+)*", line)}
        for at, text in cells.items():
            if text in PACKAGES:
                drawn[text] = []
                columns[at + 13 if text != "storage" else at + 11] = text
            elif at in columns:
                drawn[columns[at]].append(set(text.split(" | ")))
    expected = floors()
    assert set(drawn) == set(PACKAGES)
    for package in ("search", "dashboards", "training", "storage"):
        assert drawn[package] == expected[package], package


def test_every_room_is_named() -> None:
    rooms = {
        folder.relative_to(ROOT).as_posix()
        for package in PACKAGES[:-1]
        for folder in (ROOT / package).iterdir()
        if (folder / "__init__.py").exists()
    }
    named = section("The rooms").split("| room |")[1]
    missing = [
        room for room in sorted(rooms) if not re.search(rf"`(\w+/)?{Path(room).name}`", named)
    ]
    assert missing == []


def test_no_folder_has_more_than_sixteen_modules() -> None:
    crowded = {
        folder.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for folder in [ROOT / package, *(ROOT / package).rglob("*/")]
        if len(list(folder.glob("*.py"))) > 16
    }
    assert crowded == {"search/cli"}


@contextmanager
def calls(wanted: Collection[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Notes file and name of each function that is called, in any thread, if it is wanted."""
    package = f"{ROOT}/canopy_search/"
    called: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(package):
            step = (code.co_filename.removeprefix(package), code.co_name)
            if step in wanted:
                called.append(step)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def test_both_walks_are_those_of_a_search(tmp_path: Path, database_url: str) -> None:
    write_planet_data(tmp_path, images=24)
    (tmp_path / "canopy.yaml").write_text(CONFIG)
    user = InProcess(tmp_path, database_url)
    down_here, down_in_worker = walks("A trial's settings, on their way down")
    (up,) = walks("One AP, on its way up")
    user.run("search")  # imports everything, which takes long under a profiler
    with calls(down_here) as of_command:
        user.run("search", "--trials", "2")
    user.run("search", "--trials", "3", "--hours", "0")  # requests one more
    with calls(down_in_worker + up) as of_worker:
        user.run("worker")
    for steps, called in ((down_here, of_command), (down_in_worker, of_worker), (up, of_worker)):
        left = iter(called)
        missing = [step for step in steps if step not in left]  # looks on from the last one found
        assert not missing, called
