"""Every row of the hand search that Canopy replaces is a trial of ours, and its diary says it."""

import re
from pathlib import Path

import pytest

from canopy_search.dashboards.stats.difference import Difference
from canopy_search.dashboards.stats.verdict import verdicts
from canopy_search.search.config.yaml_file import read_yaml, yaml_text
from canopy_search.storage.database import Database
from canopy_search.storage.study.enqueued import enqueued_settings
from canopy_search.storage.study.mirror_rows import MirroredTask, MirrorStore
from canopy_search.storage.study.predictions import trial_predictions
from canopy_search.storage.study.studies import StudyStore
from tests.dashboards.diary_reading import ReadSection, sections_of, signed
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

EXAMPLE = Path(__file__).parents[2] / "examples" / "planet.yaml"
HEADINGS = [
    "Baseline: ResNet18, BCE, constant learning rate",
    "ExponentialLR, gamma .95",
    "ExponentialLR, gamma .90",
    "ExponentialLR, gamma .85",
    "ExponentialLR, gamma .80",
    "ResNet152, ExponentialLR, gamma .80",
    "ResNet50, ExponentialLR, gamma .80",
    "ResNet50, ExponentialLR, gamma .85",
    "ResNet50, focal loss + BCE, ExponentialLR, gamma .85",
    "ResNet50, BCE weighted by the classes' priors, ExponentialLR, gamma .85",
]
# Those of the example, and small ones in their place.
LARGE = {"resnet18": "resnet18", "resnet50": "resnet50", "resnet152": "resnet152"}
SMALL = {"resnet18": "tinycnn_8", "resnet50": "tinycnn_16", "resnet152": "tinyresnet_8"}
WRITTEN = {"resnet18": "ResNet18", "resnet50": "ResNet50", "resnet152": "ResNet152"}
DIGITS = {"f1": 2, "precision": 2, "recall": 2, "AP": 2, "hamming": 3}
WEB = "https://clearml.example/projects/p7"


@pytest.mark.parametrize(
    "networks", [pytest.param(LARGE, marks=pytest.mark.exhaustive), SMALL], ids=["large", "small"]
)
def test_all_ten_rows_of_the_hand_search_finish_and_are_told_of(
    networks: dict[str, str], database: Database, database_url: str, tmp_path: Path
) -> None:
    write_planet_data(tmp_path, images=50)

    document = read_yaml(EXAMPLE)
    document["search"]["space"]["backbone"] = list(networks.values())
    for row in document["search"]["enqueue"]:
        row["backbone"] = networks[row["backbone"]]
    rows = document["search"]["enqueue"]
    assert len(rows) == 10
    document["data"] |= {"image_px": 32, "split": {"validation": 0.4, "test": 0.1}}
    document["training"] |= {"epochs": 2, "batch_size": 64, "threads": 1, "precision": "fp32"}
    document["stages"] = {"enabled": False}  # a checkpoint of ResNet152 takes longer than its epoch
    document["search"] |= {"pruner": {"name": "none"}, "diary": "notes/EXPERIMENTS.md"}
    (tmp_path / "canopy.yaml").write_text(yaml_text(document))

    canopy = InProcess(tmp_path, database_url)
    output = canopy.run("search", "--trials", "10").stdout
    assert "wrote notes/EXPERIMENTS.md" in output
    assert "canopy diary" not in output.partition("Next:")[2]

    trials = canopy.json("trials")
    assert [trial["params"] for trial in trials] == [
        each.params for each in enqueued_settings(rows)
    ]
    assert {trial["state"] for trial in trials} == {"COMPLETE"}

    path = tmp_path / "notes" / "EXPERIMENTS.md"
    first = path.read_text()
    sections = sections_of(first)
    assert [re.sub(r"^\d\d\.\d\d\.\d{4} · | \(trial \d\)$", "", s.heading) for s in sections] == [
        *(renamed(each, networks) for each in HEADINGS), "Finalists", "Decision",
    ]  # fmt: skip
    base = trials[0]["metrics"][-1]
    for trial, section in zip(trials, sections, strict=False):
        check_block(section, trial["metrics"][-1], None if trial is trials[0] else base)
    changed = renamed("ResNet152 instead of ResNet18, with gamma .80.", networks)
    assert changed in sections[5].text
    check_verdicts(database, sections)
    assert "TEST  " not in first
    assert "ClearML" not in first

    words = {3: "Chosen: the best by AP.", 8: "Very bad results."}
    for number, text in words.items():
        mark = re.compile(rf"(<!-- words: trial {number},.* -->\n)\n")
        first = mark.sub(lambda found, text=text: f"{found[1]}{text}\n", first, count=1)
    path.write_text(first)
    record_pages(database)
    again = ("diary", "--output", "notes/EXPERIMENTS.md")
    assert "2 places" in canopy.run(*again).stdout
    second = path.read_text()
    for number, section in enumerate(sections_of(second)[:10]):
        check_links(section, number)
        assert (words.get(number, "Chosen") in section.text) == (number in words)
    canopy.run(*again)
    assert path.read_text() == second


def renamed(text: str, networks: dict[str, str]) -> str:
    """Returns a text of the diary with other networks in place of the example's."""
    for name, other in networks.items():
        text = text.replace(WRITTEN[name], WRITTEN.get(other, other))
    return text


def check_block(
    section: ReadSection, ours: dict[str, float], base: dict[str, float] | None
) -> None:
    [(label, block)] = section.block.items()
    assert label == "VAL"
    [loss] = [name for name in block if name.endswith("_loss")]
    assert block.keys() == {loss, *DIGITS}
    for name, digits in (DIGITS | {loss: 4}).items():
        key = f"val_{name.lower()}"
        value, difference = block[name]
        assert float(value) == pytest.approx(ours[key], abs=0.5001 * 10**-digits)
        is_comparable = base is not None and key in base
        assert difference == (signed(ours[key], base[key], digits) if is_comparable else None)


def check_verdicts(database: Database, sections: list[ReadSection]) -> None:
    known = verdicts(
        trial_predictions(database, "planet", range(10)), 0, range(1, 10), looked_at=10
    )
    said = {"better": "**Better than", "worse": "**Worse than", "within noise": "**Within noise of"}
    for number, verdict in known.items():
        assert isinstance(verdict, Difference)
        text = f"{said[verdict.verdict]} the baseline**: AP {signed(verdict.mean, 0, 4)}, "
        text += f"95 % interval {signed(verdict.low, 0, 4)} to {signed(verdict.high, 0, 4)}, "
        assert text in sections[number].text


def record_pages(database: Database) -> None:
    """Records what a mirror would, had it sent the first nine trials."""
    store = StudyStore(database)
    mirror = MirrorStore(database, store.study_id("planet"), "http://api.clearml.example")
    store.close()
    web = WEB.partition("/projects")[0]
    mirror.write_state(project="p7", web=web, api_version="2.30")
    for number in range(9):
        mirror.write_task(MirroredTask(number, task=f"t{number}"))


def check_links(section: ReadSection, number: int) -> None:
    run = f"[ClearML run]({WEB}/experiments/t{number}/output/metrics/scalar)"
    compared = f"({WEB}/compare-experiments;ids=t0,t{number}/scalars/graph)"
    assert (run in section.text) == (number < 9)
    assert (compared in section.text) == (0 < number < 9)
