from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import NamedSettings
from canopy_search.search.errors import CurveTableError, SamplerError
from canopy_search.search.scheduling.factory import PRUNERS
from canopy_search.search.simulation.comparison import (
    Compared,
    Searches,
    Spread,
    compare,
    comparison_table,
    differences,
    named,
)
from canopy_search.search.simulation.curve_files import read_curves, write_curves
from canopy_search.search.simulation.curves import CurvePoint, CurveTable
from canopy_search.search.simulation.replay import SimulatedPlan, SimulatedSearch, simulate
from canopy_search.storage.study.enqueued import enqueued_settings

SPACE = {
    "loss": CategoricalDistribution(["bce", "focal"]),
    "gamma": FloatDistribution(0.8, 1.0, step=0.1),
}
GAMMAS = (0.8, 0.9, 1.0)
EPOCHS = 4


def table() -> CurveTable:
    """AP grows with gamma and every epoch takes a second; focal is a tenth worse."""
    curves = {}
    for loss in ("bce", "focal"):
        for gamma in GAMMAS:
            curves[loss, gamma] = [
                CurvePoint(
                    f"{loss} {gamma if epoch > 1 else ''} {epoch}",
                    (0.1 * (loss == "bce")) + (gamma * epoch / 10 if epoch > 1 else 0.1),
                    1.0,
                )
                for epoch in range(1, EPOCHS + 1)
            ]
    return CurveTable(dict(SPACE), EPOCHS, curves, {"epochs": EPOCHS})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "curves.parquet"
    rows = [
        {
            "loss": loss,
            "gamma": gamma,
            "epoch": epoch,
            "stage": point.stage,
            "val_ap": point.val_ap,
            "train_s": 0.75,
            "val_s": 0.25,
        }
        for (loss, gamma), curve in table().curves.items()
        for epoch, point in enumerate(curve, start=1)
    ]
    write_curves(path, rows[::-1], SPACE, {"epochs": EPOCHS, "study": "x"})
    found = read_curves(path)
    assert found.curves == table().curves
    assert found.distributions == SPACE
    assert (found.epochs, found.about["study"]) == (EPOCHS, "x")
    with pytest.raises(CurveTableError, match=r"no point .*0\.85"):
        found.curve({"loss": "bce", "gamma": 0.85})


def test_what_is_no_table_says_so(tmp_path: Path, words: SnapshotAssertion) -> None:
    path = tmp_path / "x.parquet"
    said = []
    with pytest.raises(CurveTableError) as error:
        read_curves(path)
    said.append(str(error.value))
    path.write_text("nothing of the kind")
    with pytest.raises(CurveTableError) as error:
        read_curves(path)
    said.append(": ".join(str(error.value).split(": ")[:2]))  # what follows is pyarrow's
    other = pyarrow.table({"a": [1]})
    pyarrow.parquet.write_table(other, path)
    with pytest.raises(CurveTableError) as error:
        read_curves(path)
    said.append(str(error.value))
    write_curves(path, [{"epoch": 1}], {}, {"epochs": 1})
    newer = pyarrow.parquet.read_table(path)
    text = newer.schema.metadata[b"canopy"].replace(b'"version": 1', b'"version": 9')
    pyarrow.parquet.write_table(newer.replace_schema_metadata({b"canopy": text}), path)
    with pytest.raises(CurveTableError) as error:
        read_curves(path)
    said.append(str(error.value))
    assert said == words


def run(pruner: str, *, workers: int = 1, shares: bool = True) -> SimulatedSearch:
    plan = SimulatedPlan(NamedSettings(name="grid"), named(pruner), 6, workers, shares)
    return simulate(table(), plan, 0)


def test_a_grid_without_pruner_by_hand() -> None:
    found = run("none")
    assert (found.trials, found.complete) == (6, 6)
    assert found.best_ap == pytest.approx(0.5)
    assert found.epochs_reported == 24
    assert found.epochs_trained == 2 * (1 + 3 * 3)
    assert found.seconds == 20
    assert run("none", shares=False).seconds == 24


def test_workers_share_the_time_and_wait_for_each_other() -> None:
    assert run("none", workers=2, shares=False).seconds == 12
    two = run("none", workers=2)
    assert two.epochs_trained == 20
    assert 10 <= two.seconds <= 12
    # Six workers begin two trunks together; each waits a second for its own.
    assert run("none", workers=6).seconds == 4


def test_promotion_by_hand() -> None:
    found = run("asha:reduction_factor=2")
    assert found.trials == 6
    assert found.epochs_reported < 24
    assert found.best_ap == pytest.approx(0.5)
    assert found.epochs_trained <= found.epochs_reported


@pytest.mark.parametrize("pruner", sorted(PRUNERS))
@pytest.mark.parametrize("workers", [1, 3])
def test_a_full_setting_runs_to_its_end_under_every_pruner(pruner: str, workers: int) -> None:
    best, worst = {"loss": "bce", "gamma": 1.0}, {"loss": "focal", "gamma": 0.8}
    told: dict[int, int] = {}
    plan = SimulatedPlan(
        named("random"),
        named(f"{pruner}:n_startup_trials=0" if pruner == "median" else pruner),
        12,
        workers,
        enqueue=enqueued_settings([best, {**worst, "full": True}, {**worst, "gamma": 0.9}]),
    )
    simulate(
        table(),
        plan,
        0,
        on_epoch=lambda epoch: told.update({epoch.trial: epoch.epoch}),
    )
    assert told[0] == told[1] == EPOCHS
    if workers == 1 and pruner in {"asha", "median"}:
        assert told[2] < EPOCHS


def test_a_run_that_diverges_is_pruned() -> None:
    curves = {key: curve[:1] for key, curve in table().curves.items()}
    for curve in curves.values():
        curve.append(CurvePoint("nan" + curve[0].stage, None, 0.0))
    diverging = CurveTable(dict(SPACE), EPOCHS, curves, {})
    found = simulate(diverging, SimulatedPlan(named("random"), named("median"), 5), 0)
    assert (found.trials, found.complete, found.best_ap) == (5, 0, None)


@pytest.mark.parametrize("pruner", ["asha:reduction_factor=2", "hyperband"])
def test_one_seed_is_one_search(pruner: str) -> None:
    plan = SimulatedPlan(named("tpe:n_startup_trials=3"), named(pruner), 12, workers=3)
    one, same, other = (simulate(table(), plan, seed) for seed in (4, 4, 5))
    assert one == same
    assert one != other


def test_comparison() -> None:
    rows = compare(
        dict.fromkeys(range(3), table()), ["random"], ["none", "median"], Searches(trials=4)
    )
    none = rows[0]
    assert none.epochs_reported == Spread(16, 0)
    assert none.seconds_alone == Spread(16, 0)
    assert none.seconds.mean == none.epochs_trained.mean < 16
    assert none.best_ap.mean + none.regret.mean == pytest.approx(0.5)
    assert none.as_json()["best_ap"] == {
        "mean": none.best_ap.mean,
        "deviation": none.best_ap.deviation,
    }
    assert comparison_table(rows, n_trials=4).row_count == 2


def test_verifying_the_answer_costs_epochs() -> None:
    trained = [
        compare({0: table()}, ["random"], ["branches"], Searches(trials=4, verify=share))[0]
        for share in (0.0, 1.0)
    ]
    assert trained[0].epochs_trained.mean < trained[1].epochs_trained.mean


def compared(pruner: str, regrets: list[float], seconds: float, workers: int = 1) -> Compared:
    same, spread = Spread(0, 0), Spread.of(regrets)
    return Compared(
        "tpe",
        pruner,
        workers,
        best_ap=same,
        regret=spread,
        regrets=tuple(regrets),
        trials=same,
        epochs_reported=same,
        epochs_trained=same,
        seconds=Spread(seconds, 0),
        seconds_alone=same,
    )


def test_how_far_from_the_best_searches_end() -> None:
    row = compared("asha", [0.0, 0.004, 0.005, 0.009, 0.02], 1)
    assert row.regret_p90 == pytest.approx(0.0156)  # between the fourth and the fifth
    found = row.as_json()
    assert (found["within_005"], found["within_01"], found["workers"]) == (0.6, 0.8, 1)


def test_differences_say_whether_they_are_beyond_their_spread(words: SnapshotAssertion) -> None:
    rows = [
        compared("median", [0.010, 0.020, 0.030], 100),
        compared("asha", [0.015, 0.026, 0.034], 50),  # .005 ± .001: t(2) is 4.3, so ± .0025
        compared("hyperband", [0.030, 0.010, 0.015], 80),
        compared("median", [0.01, 0.01, 0.01], 30, workers=4),
    ]
    assert differences(rows) == words
    assert differences([compared("median", [0.1], 1), compared("asha", [0.2], 1)]) == []


def test_rows_with_different_metrics(tmp_path: Path) -> None:
    """The first point diverges at once, and every loss has a name of its own."""
    path = tmp_path / "x.parquet"
    rows = [
        {"loss": "bce", "gamma": 0.8, "epoch": 1, "stage": "a", "diverged": "the loss is nan"},
        {"loss": "focal", "gamma": 0.8, "epoch": 1, "stage": "b", "val_ap": 0.5, "train_s": 1.0},
    ]
    write_curves(path, rows, SPACE, {"epochs": 1})
    curves = read_curves(path).curves
    assert curves["bce", 0.8] == [CurvePoint("a", None, 0.0)]
    assert curves["focal", 0.8] == [CurvePoint("b", 0.5, 1.0)]


def test_nothing_to_find_says_so(words: SnapshotAssertion) -> None:
    empty = CurveTable(dict(SPACE), EPOCHS, {("bce", 0.8): [CurvePoint("a", None, 0.0)]}, {})
    with pytest.raises(CurveTableError) as error:
        compare({0: empty}, ["random"], ["none"], Searches(trials=1))
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("sampler", "pruner", "says"),
    [
        ("tpo", "none", "did you mean 'tpe'"),
        ("tpe", "hyperband:max_resource=0", "hyperband"),
        ("tpe:n_ei_candidates=0", "none", "tpe"),
        ("tpe", "asha:reduction_factor=", "reduction_factor.*found nothing"),
    ],
)
def test_what_does_not_work_is_said_before_the_first_search(
    sampler: str, pruner: str, says: str
) -> None:
    with pytest.raises(SamplerError, match=says):
        compare({0: table()}, ["random", sampler], ["none", pruner], Searches(trials=1))


def test_names_with_parameters() -> None:
    assert named("asha:reduction_factor=2,min_epochs=3").parameters == {
        "reduction_factor": 2,
        "min_epochs": 3,
    }
    assert named("tpe").parameters == {}
    for wrong in ("asha:2", "asha:a=[", "asha:name=x", "asha:"):
        if wrong == "asha:":
            assert named(wrong).parameters == {}
            continue
        with pytest.raises(SamplerError, match=r"^asha:"):
            named(wrong)
