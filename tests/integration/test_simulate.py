"""`canopy simulate`: known curves, searched as often as one likes."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.integration.in_process import InProcess

SEARCHED = ["simulate", "--family", "late-8", "--sampler", "random", "--pruner", "asha"]
CSV = "data,network,epoch,val_map,seconds\n" + "".join(
    f"{data},{network},{epoch},{0.1 * epoch + 0.01 * int(network)},2\n"
    for data in "ab"
    for network in range(6)
    for epoch in range(1, 5)
)


def test_a_family_by_one_worker_and_by_four(tmp_path: Path) -> None:
    canopy = InProcess(tmp_path)
    arguments = [*SEARCHED, "--pruner", "none", "--trials", "8", "--seeds", "3"]
    rows = canopy.json(*arguments, "--workers", "1", "--workers", "4")
    assert [(row["pruner"], row["workers"]) for row in rows] == [
        ("asha", 1),
        ("none", 1),
        ("asha", 4),
        ("none", 4),
    ]
    for row in rows:
        assert row["regret_p90"] >= 0
        assert 0 <= row["within_005"] <= row["within_01"] <= 1
    assert rows[0]["seconds"]["mean"] > rows[2]["seconds"]["mean"]
    others = canopy.json(*arguments, "--first-seed", "1000")
    assert others[0]["regret"] != rows[0]["regret"]

    shown = canopy.run(*arguments).stdout
    assert "rank correlation" in shown
    assert "random + none: regret" in shown


def test_a_table_of_somebody_else_s(tmp_path: Path) -> None:
    (tmp_path / "arena.csv").write_text(CSV)
    canopy = InProcess(tmp_path)
    [row] = canopy.json(
        "simulate", "--table", "arena.csv", "--where", "data=a", "--sampler", "random",
        "--pruner", "none", "--trials", "40", "--seeds", "2",
    )  # fmt: skip
    assert (row["regret"]["mean"], row["within_005"]) == (0, 1)
    assert row["epochs_trained"]["mean"] == 6 * 4


def test_the_families_are_listed(tmp_path: Path, words: SnapshotAssertion) -> None:
    canopy = InProcess(tmp_path)
    assert canopy.run("simulate", "--list").stdout == words
    listed = canopy.json("simulate", "--list")
    assert {"name", "is_misleading", "is_held_out", "rank_correlation"} <= listed[0].keys()


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate"],
        [*SEARCHED, "--table", "arena.csv"],
        [*SEARCHED, "--where", "data=a"],
        ["simulate", "--table", "arena.csv", "--where", "data"],
        ["simulate", "--family", "late-9"],
        ["simulate", "--table", "arena.csv", "--where", "date=a"],
    ],
)
def test_what_cannot_be_simulated(
    tmp_path: Path, arguments: list[str], words: SnapshotAssertion
) -> None:
    (tmp_path / "arena.csv").write_text(CSV)
    assert InProcess(tmp_path).run(*arguments, status=2).stderr == words
