"""Trials side by side: as data, on a terminal, as a page, and by the command."""

import io
import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.comparison.comparison import SideBySide, TrialChoice, compare_trials
from canopy_search.dashboards.comparison.page import side_by_side_html, side_by_side_page
from canopy_search.dashboards.comparison.text import side_by_side_screen, verdict_lines
from canopy_search.dashboards.errors import ComparisonError
from canopy_search.dashboards.stats.difference import Difference, NoVerdict
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from tests.dashboards.judged_study import EPOCHS, make_judged_study
from tests.dashboards.simulated_predictions import SimulatedData
from tests.integration.in_process import InProcess
from tests.integration.plain_optuna import NAME, make_plain_study

READ = datetime(2026, 3, 1, 12)
EQUAL, BETTER, OTHER = 1, 2, 3


class Studies:
    """The studies of a database, which these tests only read."""

    def __init__(self, database: Database) -> None:
        self.database, self.store = database, StudyStore(database)

    def compared(self, *wanted: tuple[str, int | None]) -> SideBySide:
        return compare_trials(
            self.store, self.database, [TrialChoice(*each) for each in wanted], READ
        )


@pytest.fixture(scope="module")
def studies(shared_database: Database) -> Iterator[Studies]:
    """Two of ours, an empty one, and one of plain Optuna.

    Trial 3 of planet has no predictions.
    """
    make_judged_study(shared_database, [1.0, 1.0, 2.0, 1.5], without_predictions=[OTHER])
    make_judged_study(shared_database, [1.0, 1.2], name="seven:7", data=SimulatedData(7))
    studies = Studies(shared_database)
    studies.store.open_study("empty")
    make_plain_study(studies.store)
    yield studies
    studies.store.close()


def screen(found: SideBySide, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(side_by_side_screen(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def without_aps(text: str) -> str:
    """Returns a text without figures whose last digit is the machine's."""
    return re.sub(r"[+−±]?\.\d{4}", "NUMBER", text)


def test_each_trial_is_compared_with_the_first(studies: Studies, words: SnapshotAssertion) -> None:
    found = studies.compared(("planet", 0), ("planet", EQUAL), ("planet", BETTER))
    assert [shown.name for shown in found.trials] == ["trial 0", "trial 1", "trial 2"]
    assert found.looked_at == 5  # four complete ones, and a pruned one
    verdicts = [
        each.verdict.verdict for each in found.others if isinstance(each.verdict, Difference)
    ]
    assert verdicts == ["within noise", "better"]
    verdict, values = found.others[1].verdict, found.results["val_ap"]
    assert isinstance(verdict, Difference)
    assert None not in values
    assert verdict.mean == pytest.approx((values[2] or 0) - (values[0] or 0), abs=1e-6)
    assert verdict.comparisons == 4
    assert found.differing == {
        "backbone": ["resnet18", "<b>net</b>", "resnet18"],
        "gamma": [0.8, 0.81, 0.82],
    }
    assert found.epochs == [1, 2, 3]
    assert list(found.labels) == ["label 0", "label 1", "label 2"]  # from frequent to rare
    lines = verdict_lines(found)
    assert lines[1].startswith("Trial 2 ")
    assert len(re.findall(r"\+\.\d{4}", lines[1])) == 3  # the difference and its interval
    assert without_aps("\n".join(lines)) == words


def test_trials_of_other_studies_keep_their_study_s_name(
    studies: Studies, words: SnapshotAssertion
) -> None:
    found = studies.compared(("planet", None), ("seven:7", None), (NAME, 3))
    assert [shown.name for shown in found.trials] == ["planet:2", "seven:7:1", f"{NAME}:3"]
    reasons = [each.verdict.reason for each in found.others if isinstance(each.verdict, NoVerdict)]
    assert reasons == words
    assert len(reasons) == 2
    assert [found.is_comparable(shown) for shown in found.trials] == [True, False, False]
    # Of plain Optuna only what was searched is known, so nothing else differs.
    assert list(found.differing) == ["backbone", "gamma", "rate [1/s]", "kind"]
    assert found.results["value"] == [None, None, 1.25]
    text = "\n".join(screen(found, 160))
    assert not re.search(r"[+−]\.\d", text)  # other images have no differences


def test_settings_that_no_trial_searched_differ_between_studies(studies: Studies) -> None:
    found = studies.compared(("planet", 0), ("seven:7", 0))
    assert found.differing == {"data.fingerprint": ["images 0" * 5, "images 7" * 5]}


def test_a_trial_without_predictions_is_shown_without_a_verdict(
    studies: Studies, words: SnapshotAssertion
) -> None:
    found = studies.compared(("planet", 0), ("planet", OTHER), ("planet", 4), ("planet", 5))
    assert all(isinstance(shown.verdict, NoVerdict) for shown in found.others)
    assert found.results["val_ap"][3] is None  # it failed before its first epoch
    page = side_by_side_page(found)
    assert page.title.startswith("Trial 3 ")
    assert without_aps("\n".join([*verdict_lines(found), page.title])) == words


def test_the_terminal_has_everything_in_eighty_columns(studies: Studies) -> None:
    wanted = [("planet", number) for number in range(6)]
    found = studies.compared(*wanted)
    lines = screen(found, 80)
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    for shown in ("Settings that differ", "<b>net</b>", "label 2", "95 % interval", "pruned"):
        assert shown in text
    for row in ("val_ap", "gamma", "state"):
        (line,) = (line for line in lines if line.split()[:1] == [row])
        assert "…" not in line
    curve = lines[lines.index(next(line for line in lines if "After each epoch" in line)) :]
    assert [line.split()[0] for line in curve[4 : 4 + EPOCHS]] == ["1", "2", "3"]


def test_the_page_draws_every_trial_and_takes_no_name_for_markup(studies: Studies) -> None:
    found = studies.compared(("planet", 0), ("planet", BETTER), (NAME, 3), (NAME, 0))
    page = side_by_side_page(found)
    sections = {section.key: section for section in page.sections}
    assert list(sections) == ["differences", "results", "learning", "per-label"]
    curves, plain = sections["learning"].charts[0].figures  # two metrics, two axes
    assert [len(trace.y) for trace in curves.data] == [EPOCHS, EPOCHS]
    assert list(plain.data[0].y) == [1.7, 1.68, 1.66]
    assert plain.layout.xaxis.title.text == "step"
    (labels,) = sections["per-label"].charts[0].figures
    assert [len(trace.x) for trace in labels.data] == [3, 3]
    assert "at epoch 3" in sections["learning"].charts[0].sentence
    html = side_by_side_html(found)
    assert "<b>plain</b>" not in html
    assert "<b>net</b>" not in html
    assert "<i>b</i>" not in html


def test_a_pair_is_answered_in_the_title(studies: Studies, words: SnapshotAssertion) -> None:
    pair = side_by_side_page(studies.compared(("planet", 0), ("planet", BETTER)))
    assert re.match(r"Trial 2 .*trial 0: AP \+\.\d{4}", pair.title)
    told = side_by_side_page(studies.compared((NAME, 0), (NAME, 3)))
    assert told.title.startswith("Trial 3 ")  # the study minimises
    assert told.title.endswith(" 1.25")
    assert without_aps("\n".join([pair.title, told.title, *told.lead])) == words


@pytest.mark.parametrize(
    ("wanted", "facts"),
    [
        ([("planet", 0)], ["two to six", "found 1"]),
        ([("planet", number) for number in range(7)], ["two to six", "found 7"]),
        ([("planet", 0), ("planet", 0)], ["trial 0 of study 'planet'", "twice"]),
        ([("planet", 2), ("planet", None)], ["trial 2 of study 'planet'", "twice"]),
        ([("planet", 0), ("planet", 6)], ["trial 6", "0 to 5"]),
        ([("planet", 0), ("empty", 0)], ["'empty'", "trial 0"]),
        ([("planet", 0), ("empty", None)], ["'empty'", "empty:NUMBER"]),
    ],
    ids=["one", "seven", "twice", "the best twice", "no such trial", "no trial", "none complete"],
)
def test_what_is_not_there_is_said(
    wanted: list[tuple[str, int | None]],
    facts: list[str],
    studies: Studies,
    words: SnapshotAssertion,
) -> None:
    with pytest.raises(ComparisonError) as error:
        studies.compared(*wanted)
    assert all(fact in str(error.value) for fact in facts)
    assert str(error.value) == words


def test_the_command_takes_numbers_studies_and_both(studies: Studies, tmp_path: Path) -> None:
    user = InProcess(tmp_path, studies.database.url.render_as_string(hide_password=False))

    def named(*arguments: str) -> list[tuple[str, int]]:
        document = user.json("compare", "--study", "planet", *arguments)
        return [(trial["study"], trial["number"]) for trial in document["trials"]]

    assert named("0", "2") == [("planet", 0), ("planet", 2)]
    assert named("planet:1", "planet") == [("planet", 1), ("planet", 2)]
    # A study of that name there is; so it is its best, and not a trial of study "seven".
    assert named("seven:7", "seven:7:0") == [("seven:7", 1), ("seven:7", 0)]
    assert named(f"{NAME}:3", f"{NAME}:0") == [(NAME, 3), (NAME, 0)]

    document = user.json("compare", "--study", "planet", "0", "2")
    better = document["trials"][1]
    assert better["verdict"] == "better"
    assert better["difference_interval"][0] > 0
    assert document["trials"][0]["verdict"] is None
    done = user.run("compare", "--study", "planet", "0", "2", "--output", "out/pair.html")
    assert "better" in done.stdout
    page = (tmp_path / "out" / "pair.html").read_text()
    [title] = re.findall(r"<h1.*?>(.*?)</h1>", page)
    assert "better" in title
    figures = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert [len(json.loads(figure)["data"]) for figure in figures] == [2, 2]
    refused = user.run("compare", "0", "nothing", "--study", "planet", status=2)
    assert refused.stderr.startswith("canopy: ")
    assert "study 'nothing'" in refused.stderr
