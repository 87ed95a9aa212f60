"""What trials share, through the command: counts, equal numbers, deaths, budgets, promotions."""

import hashlib
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.study.configuration import load_config
from canopy_search.storage.database import Database
from canopy_search.training.checkpoint import state_from_bytes
from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.run import TrainingRun
from tests.integration.canopy_command import Canopy
from tests.integration.epoch_gate import PATIENCE_S, EpochGate
from tests.integration.in_process import InProcess
from tests.integration.killing import kill_in_epoch, kill_with_workers, started, wait_for_line
from tests.planet_data import write_planet_data
from tests.shared_servers import execute

CONFIG = """
data: {{labels: train_classes.csv, images: train-jpg, image_px: 32}}
training:
  {{epochs: 3, batch_size: 8, backbone: tinycnn_8, threads: 1, optimizer: {{lr: 3e-3}}}}
search:
  study: planet
  pruner: {{name: none}}
  space:
    loss: [bce, weighted_bce]
    gamma: {{low: 0.80, high: 1.00, step: 0.05}}
  enqueue: {enqueue}
"""
TWO = "[{loss: bce, gamma: 0.8}, {loss: bce, gamma: 0.9}]"
THREE_ALIKE = "[{loss: bce, gamma: 0.8}, {loss: bce, gamma: 0.8}, {loss: bce, gamma: 0.8}]"
OFF = "stages: {enabled: false}\n"

User = Callable[..., InProcess]


@pytest.fixture
def user(database_url: str, tmp_path: Path) -> User:
    """Somebody with 60 images and a configuration."""
    write_planet_data(tmp_path, images=60)

    def with_config(enqueue: str = "[]", more: str = "", **replaced: str) -> InProcess:
        text = CONFIG.format(enqueue=enqueue)
        for old, new in replaced.items():
            text = text.replace(old, new)
        (tmp_path / "canopy.yaml").write_text(text + more)
        return InProcess(tmp_path, database_url)

    return with_config


def epochs_of(canopy: InProcess, *arguments: str) -> dict[str, int]:
    counts: dict[str, int] = canopy.json("status", *arguments)["epochs"]
    return counts


def numbers(canopy: InProcess, *arguments: str) -> list[Any]:
    """Parameters and every metric of every epoch but what a clock measured."""
    measured = {"train_s", "val_s", "wait_s", "images_per_s", "peak_memory_mib"}
    return [
        [
            trial["params"],
            trial["state"],
            [{k: v for k, v in each.items() if k not in measured} for each in trial["metrics"]],
        ]
        for trial in canopy.json("trials", *arguments)
    ]


@pytest.mark.parametrize(
    ("enqueue", "trials", "reported", "trained"),
    [(TWO, 2, 6, 5), pytest.param(THREE_ALIKE, 3, 9, 3, marks=pytest.mark.exhaustive)],
)
def test_what_trials_have_in_common_is_trained_once(
    user: User, enqueue: str, trials: int, reported: int, trained: int
) -> None:
    sharing = user(enqueue)
    output = sharing.run("search", "--trials", str(trials)).stdout
    assert epochs_of(sharing) == {
        "reported": reported,
        "trained": trained,
        "replayed": reported - trained,
    }
    shared = 1 if trials == 2 else 3
    assert output.count(f"epoch {shared} of trial 0") == trials - 1
    assert f"{trained} epochs trained" in output
    assert f"{reported - trained} of {reported} reported" in output

    alone = user(enqueue, OFF)
    alone.run("search", "--trials", str(trials), "--study", "alone")
    assert epochs_of(alone, "--study", "alone") == {
        "reported": reported,
        "trained": reported,
        "replayed": 0,
    }
    assert numbers(sharing) == numbers(alone, "--study", "alone")


@pytest.mark.parametrize("pruner", [pytest.param("none", marks=pytest.mark.exhaustive), "asha"])
def test_stages_that_are_off_leave_nothing_behind(user: User, pruner: str) -> None:
    canopy = user(TWO, OFF, **{"name: none": f"name: {pruner}"})
    canopy.run("search", "--trials", "3")
    listing = canopy.json("stages", "ls")
    assert (listing["known"], listing["checkpoints"]) == (0, [])
    assert not list(canopy.folder.glob(".canopy/checkpoints/*/*.pt"))


def test_a_second_study_starts_from_what_the_first_one_left(user: User) -> None:
    canopy = user()
    canopy.run("search", "--trials", "8")
    user(**{"pruner:": "sampler: {name: random}\n  pruner:"})
    output = canopy.run("search", "--trials", "8", "--study", "second").stdout
    counts = epochs_of(canopy, "--study", "second")
    assert counts["trained"] < counts["reported"] / 2
    assert " of planet" in output


def test_accounting_of_each_trial(user: User) -> None:
    canopy = user(TWO)
    canopy.run("search", "--trials", "2")
    first, second = canopy.json("trials")
    names = ("epochs_reported", "epochs_trained", "epochs_replayed", "epochs_resumed")
    assert [first[name] for name in names] == [3, 3, 0, 0]
    assert [second[name] for name in names] == [3, 2, 1, 1]
    assert second["trained_s"] < second["seconds"]
    assert canopy.json("status")["seconds"] == first["trained_s"] + second["trained_s"]


def test_a_pruned_trial_is_promoted(user: User) -> None:
    canopy = user("[{loss: bce, gamma: 0.8}]", **{"name: none": "name: asha, reduction_factor: 2"})
    canopy.run("search", "--trials", "4")
    trials = canopy.json("trials")
    pruned = next(trial for trial in trials if trial["state"] == "PRUNED")
    number = str(pruned["number"])

    output = canopy.run("promote", number).stdout
    promoted = canopy.json("trials")[4]
    assert promoted["promoted_from"] == pruned["number"]
    assert promoted["params"] == pruned["params"]
    assert promoted["state"] == "COMPLETE"
    assert promoted["epochs_trained"] + pruned["epochs_reported"] <= promoted["epochs_reported"]
    assert f"of trial {number}" in output or "of trial" in output
    assert canopy.json("status")["trials"]["finished"] == 5
    # The study has what it was asked for, and more is not begun.
    canopy.run("search", "--trials", "4")
    assert canopy.json("status")["trials"]["finished"] == 5


def test_what_cannot_be_promoted_says_why(user: User, words: SnapshotAssertion) -> None:
    canopy = user(TWO)
    said = [canopy.run("promote", "0", status=2).stderr]
    canopy.run("search", "--trials", "2")
    said += [canopy.run("promote", *numbers, status=2).stderr for numbers in (("0",), ("7", "0"))]
    assert ["trial 7" in text for text in said] == [False, False, True]
    assert said == words
    assert len(canopy.json("trials")) == 2


def test_a_trial_that_diverged_is_not_promoted_and_ends_the_same_again(
    user: User, words: SnapshotAssertion
) -> None:
    canopy = user(
        "[{loss: bce, gamma: 0.8}, {loss: bce, gamma: 0.8}]",
        **{"optimizer: {lr: 3e-3}": "optimizer: {name: sgd, lr: 1e+30}"},
    )
    canopy.run("search", "--trials", "2")
    first, second = canopy.json("trials")
    assert first["reason"] == second["reason"]
    assert first["reason"].startswith("diverged: ")
    refused = canopy.run("promote", "0", status=2).stderr
    assert refused.replace("is inf ", "is nan ") == words


@pytest.mark.exhaustive
def test_a_search_by_promotion_is_the_same_whatever_is_known(user: User) -> None:
    canopy = user(**{"name: none": "name: asha, reduction_factor: 2"})
    canopy.run("search", "--trials", "6", "--study", "first")
    canopy.run("search", "--trials", "6", "--study", "second")
    canopy = user(more=OFF, **{"name: none": "name: asha, reduction_factor: 2"})
    canopy.run("search", "--trials", "6", "--study", "alone")

    assert numbers(canopy, "--study", "second") == numbers(canopy, "--study", "first")
    assert numbers(canopy, "--study", "alone") == numbers(canopy, "--study", "first")
    assert epochs_of(canopy, "--study", "second")["trained"] == 0
    alone = epochs_of(canopy, "--study", "alone")
    assert alone["trained"] == alone["reported"]
    assert len({len(trial["metrics"]) for trial in canopy.json("trials", "--study", "first")}) > 1


def test_a_budget_holds_and_changes_no_number(user: User) -> None:
    canopy = user(TWO)
    canopy.run("search", "--trials", "2")
    one = canopy.json("stages", "ls")["checkpoints"][0]["size"]
    free = user(more="stages: {checkpoints: free}\n", **{"epochs: 3": "epochs: 4"})
    free.run("search", "--trials", "6", "--study", "free")
    budget = 3.5 * one / 2**30
    tight = user(
        more=f"stages: {{checkpoints: tight, budget_gib: {budget:.12f}}}\n",
        **{"epochs: 3": "epochs: 4"},
    )
    execute(str(tight.database_url), "DELETE FROM canopy_stage")
    tight.run("search", "--trials", "6", "--study", "tight")
    largest = sum(path.stat().st_size for path in tight.folder.glob("tight/*/*"))
    assert 0 < largest <= budget * 2**30
    assert numbers(tight, "--study", "tight") == numbers(free, "--study", "free")


def test_the_whole_space_as_a_table_and_searches_on_it(user: User) -> None:
    canopy = user()
    table = str(canopy.folder / "curves.parquet")
    output = canopy.run("tabulate", "--output", table).stdout
    assert table in output
    assert "10 points" in output
    rows = pyarrow.parquet.read_table(table).to_pylist()
    assert len(rows) == 30
    assert len({row["stage"] for row in rows}) == 2 * (1 + 5 * 2)
    assert "train_s" in rows[0]

    # Every trial of a search is in it, number for number.
    canopy.run("search", "--trials", "4")
    assert epochs_of(canopy)["trained"] == 0
    curves = {(row["loss"], row["gamma"], row["epoch"]): row["val_ap"] for row in rows}
    for trial in canopy.json("trials"):
        for metrics in trial["metrics"]:
            point = (trial["params"]["loss"], trial["params"]["gamma"], metrics["epoch"])
            assert curves[point] == metrics["val_ap"]

    # A simulation with the study's seed is the study.
    arguments = ["--table", table, "--trials", "4", "--seeds", "1"]
    [row] = canopy.json("simulate", *arguments, "--sampler", "tpe", "--pruner", "none")
    status = canopy.json("status")
    assert row["best_ap"]["mean"] == status["best"]["val_ap"]
    assert row["epochs_reported"]["mean"] == status["epochs"]["reported"]

    shown = canopy.run("simulate", *arguments, "--pruner", "asha:reduction_factor=2").stdout
    assert "asha:reduction_factor=2" in shown
    assert "4 trials" in shown


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["simulate", "--table", "nowhere.parquet"], "nowhere.parquet"),
        (["simulate", "--table", "train_classes.csv"], "train_classes.csv"),
        (["simulate", "--table", "other.parquet"], "other.parquet"),
        (["stages", "ls"], ""),
    ],
    ids=["absent", "no table", "another table", "no stages"],
)
def test_mistakes_with_stages(
    user: User, arguments: list[str], named: str, words: SnapshotAssertion
) -> None:
    canopy = user()
    table = pyarrow.table({"a": [1]})
    pyarrow.parquet.write_table(table, canopy.folder / "other.parquet")
    if arguments[0] == "stages":
        canopy = InProcess(canopy.folder)
    said = canopy.run(*arguments, status=2).stderr
    assert named in said
    assert re.sub("(Parquet file: ).*", r"\1REASON", said) == words


@pytest.mark.parametrize(
    ("stages", "key"),
    [
        ("{checkpoints: nope://x}", "stages.checkpoints"),
        ("{budget_gib: 0}", "stages.budget_gib"),
        ("{budget: 3}", "stages.budget"),
    ],
)
def test_wrong_settings_of_stages(
    user: User, stages: str, key: str, words: SnapshotAssertion
) -> None:
    canopy = user(more=f"stages: {stages}\n")
    said = canopy.run("search", "--trials", "1", status=2).stderr
    assert f"{key}: " in said
    assert said == words


class TestProcesses:
    """Real ones, which are really killed."""

    @pytest.fixture
    def canopy(self, user: User, database: Database) -> Canopy:
        same = user("[{loss: bce, gamma: 0.8}]", **{"epochs: 3": "epochs: 5"})
        return Canopy(same.folder, same.database_url)

    def test_a_killed_worker_costs_no_epoch_and_changes_no_weight(self, canopy: Canopy) -> None:
        recorded = kill_in_epoch(canopy, 3, "search", "--trials", "1")
        again = InProcess(canopy.folder, canopy.database_url)
        output = again.run("search", "--trials", "1").stdout
        assert f"after epoch {recorded}" in output
        [trial] = again.json("trials")
        assert (trial["epochs_reported"], trial["epochs_trained"]) == (5, 5)
        assert trial["epochs_resumed"] == recorded

        config = load_config(canopy.folder / "canopy.yaml").settings
        dataset = open_dataset(config.data, canopy.folder / ".canopy")
        settings = config.training.model_copy(update={"gamma": 0.8, "loss": "bce"})
        run = TrainingRun.of(settings, dataset)
        while not run.is_finished:
            undisturbed = run.train_epoch().as_dict()
        assert undisturbed["val_ap"] == trial["val_ap"]
        last = max(listed(again), key=lambda entry: entry["epoch"])
        [path] = canopy.folder.glob(f".canopy/checkpoints/*/{last['stage']}.pt")
        state = state_from_bytes(path.read_bytes())
        assert last["epoch"] == state["epoch"] == 5
        for name, tensor in run.model.state_dict().items():
            assert digest(tensor) == digest(state["model"][name]), name

    @pytest.mark.parametrize(
        "holder_dies", [pytest.param(False, marks=pytest.mark.exhaustive), True]
    )
    def test_two_workers_train_a_shared_epoch_once(self, canopy: Canopy, holder_dies: bool) -> None:
        asked = ("search", "--trials", "1", "--study")
        with EpochGate(canopy.database_url, 2) as gate, ExitStack() as stack:
            holder = stack.enter_context(started(canopy, *asked, "first"))
            gate.wait_for(holder)
            waiter = stack.enter_context(started(canopy, *asked, "second"))
            wait_for_line(waiter, "waiting")
            if holder_dies:
                kill_with_workers(canopy, holder, "first")
                gate.drop_waiting()
            gate.open()
            assert waiter.wait(PATIENCE_S) == 0
            if not holder_dies:
                assert holder.wait(PATIENCE_S) == 0
        reader = InProcess(canopy.folder, canopy.database_url)
        first, second = (
            reader.json("status", "--study", study)["epochs"]["trained"]
            for study in ("first", "second")
        )
        assert first + second == 5
        assert second > 0 or not holder_dies


def listed(canopy: InProcess) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = canopy.json("stages", "ls")["checkpoints"]
    return entries


def digest(tensor: Any) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
