import io
from typing import Any

import pytest
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.answer.confirmation_text import confirmation_lines, confirmation_table
from canopy_search.dashboards.study.confirmation import Confirmation, Confirmed, Run
from canopy_search.dashboards.study.finalists import Candidate

LONG = {"backbone": "tinyresnet_16", "loss": "weighted_bce", "gamma": 0.97}


def confirmed(
    trial: int | None,
    val_aps: list[float | None],
    *,
    base: bool = False,
    test: float | None = 0.6,
    **params: Any,
) -> Confirmed:
    candidate = Candidate(LONG | params, trial, 8, None, is_finalist=not base, is_baseline=base)
    runs = tuple(
        Run(seed, seed, ap, None, None if test is None else {"test_ap": test + ap / 10}, {})
        if ap is not None
        else Run(seed, seed, None, "diverged: nan", None, {})
        for seed, ap in enumerate(val_aps, start=1)
    )
    return Confirmed(candidate, runs)


def of(*settings: Confirmed) -> Confirmation:
    finalists = sum(each.candidate.is_finalist for each in settings)
    return Confirmation("planet", "planet/confirm", finalists, (1, 2, 3), settings, {})


def printed(confirmation: Confirmation, width: int = 80) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None)
    console.print(confirmation_table(confirmation))
    return file.getvalue()


def test_a_clear_lead_over_the_baseline_and_none_over_the_second(
    words: SnapshotAssertion,
) -> None:
    known = of(
        confirmed(29, [0.62, 0.64, 0.63]),
        confirmed(1234, [0.62, 0.62, 0.64], loss="bce"),
        confirmed(0, [0.51, 0.53, 0.52], base=True, gamma=1.0),
    )
    lines = confirmation_lines(known)
    for line, facts in zip(
        lines,
        [
            ["trial 29 (tinyresnet_16 · weighted_bce · gamma 0.97)", ".6300 ± .0100"],
            ["trial 1234 (", "+.0033", "95 % −.0346 to +.0413", "3 seeds", "within noise"],
            ["baseline", "+.1100", "97.5 % +.1100 to +.1100", "better"],
            ["TEST", ".6630 ± .0010"],
        ],
        strict=True,
    ):
        assert all(fact in line for fact in facts), line
    table = printed(known)
    assert "\n".join([*lines, table.splitlines()[0].rstrip()]) == words
    assert max(map(len, table.splitlines())) <= 80
    for text in (".6300 ± .0100", ".6052 to .6548", ".6520 ± .0010", "(baseline)"):
        assert text in table


def test_the_baseline_may_win(words: SnapshotAssertion) -> None:
    lines = confirmation_lines(
        of(confirmed(None, [0.6, 0.7, 0.8], base=True), confirmed(3, [0.6, 0.6, 0.8], gamma=0.8))
    )
    assert sum("trial 3 (" in line for line in lines) == 1
    assert "\n".join(lines) == words


@pytest.mark.parametrize(
    ("val_aps", "cell", "fact"),
    [([0.6, 0.7], "2 of 3 runs", "1 of 6"), ([0.6, None, 0.7], "diverged", "diverged")],
    ids=["a run", "a seed that diverged"],
)
def test_what_is_missing_is_said(
    val_aps: list[float | None], cell: str, fact: str, words: SnapshotAssertion
) -> None:
    first = confirmed(1, [0.5, 0.6, 0.7], gamma=0.8, test=None)
    known = of(first, confirmed(0, val_aps, base=True, test=None))
    lines = "\n".join(confirmation_lines(known))
    assert fact in lines
    assert lines == words
    table = printed(known)
    assert "TEST" not in table
    assert cell in table


def test_where_all_diverged_nothing_is_chosen(words: SnapshotAssertion) -> None:
    known = of(confirmed(0, [None, None, None], base=True))
    assert known.winner is None
    assert confirmation_lines(known) == words
