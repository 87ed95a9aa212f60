"""Exported files, read back by other libraries and compared with Postgres."""

import csv
import io
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.errors import ExportFormatError
from canopy_search.dashboards.study.export import Format, export_bytes, export_format, export_study
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from tests.dashboards.judged_study import EPOCHS, FAILURE, make_judged_study
from tests.integration.in_process import InProcess
from tests.integration.plain_optuna import NAME, make_plain_study

# One row for each epoch, and for a trial without any.
REPORTS = sqlalchemy.text("""
    SELECT number, CAST(state AS text) AS state, step AS epoch, intermediate_value, metrics,
        stage, recorded
    FROM trials JOIN studies USING (study_id)
    LEFT JOIN trial_intermediate_values USING (trial_id)
    LEFT JOIN canopy_epoch ON canopy_epoch.trial_id = trials.trial_id AND epoch = step
    WHERE study_name = :name ORDER BY number, step
""")


def in_postgres(database: Database, name: str) -> list[dict[str, Any]]:
    with database.engine.connect() as connection:
        return [dict(row) for row in connection.execute(REPORTS, {"name": name}).mappings()]


def exported(database: Database, name: str, file_format: Format) -> bytes:
    store = StudyStore(database)
    content = export_bytes(export_study(store, name), file_format)
    store.close()
    return content


def parquet_rows(content: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    return rows


@pytest.fixture(scope="module")
def database(shared_database: Database) -> Database:
    """One database for all tests; they export different studies and change none."""
    return shared_database


@pytest.fixture(scope="module")
def plain_trials(database: Database) -> list[optuna.trial.FrozenTrial]:
    """The trials of a study of plain Optuna; one reported non-finite values."""
    store = StudyStore(database)
    study = make_plain_study(store)
    odd = study.ask()
    odd.report(math.inf, 0)
    odd.report(math.nan, 1)
    trials = study.get_trials()
    store.close()
    return trials


@pytest.fixture(scope="module")
def judged(database: Database) -> list[dict[str, Any]]:
    """The rows in Postgres of a study of Canopy."""
    make_judged_study(database, [1.0, 2.0])
    return in_postgres(database, "planet")


def test_parquet_holds_every_epoch_with_all_its_metrics(
    database: Database, judged: list[dict[str, Any]]
) -> None:
    rows = parquet_rows(exported(database, "planet", "parquet"))
    assert len(rows) == len(judged) == 2 * EPOCHS + 1 + 1
    for row, kept in zip(rows, judged, strict=True):
        for name in ("number", "state", "epoch", "intermediate_value", "stage", "recorded"):
            assert row[name] == kept[name], name
        metrics = dict(kept["metrics"] or {})
        for label, ap in metrics.pop("val_ap_per_label", {}).items():
            assert row[f"val_ap_per_label.{label}"] == ap
        assert metrics == {name: row[name] for name in metrics}
    last = rows[EPOCHS - 1]
    assert last["value"] == last["val_ap"]
    assert (last["params_backbone"], last["params_gamma"]) == ("resnet18", 0.8)
    assert rows[-1]["reason"] == FAILURE
    assert rows[-1]["epoch"] is None
    assert all(row["began"].tzinfo is not None for row in rows)
    assert abs(datetime.now(UTC) - rows[0]["ended"]).total_seconds() < 600


def test_csv_holds_the_same_table(database: Database, judged: list[dict[str, Any]]) -> None:
    content = exported(database, "planet", "csv")
    expected = parquet_rows(exported(database, "planet", "parquet"))
    expected[-1]["reason"] = "'" + expected[-1]["reason"]  # or a spreadsheet computes it
    table = pyarrow.csv.read_csv(
        io.BytesIO(content), convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    )
    assert table.column_names == list(expected[0])
    for row, wanted in zip(table.to_pylist(), expected, strict=True):
        assert _instants(row) == _instants(wanted)


def test_json_is_nested(database: Database, judged: list[dict[str, Any]]) -> None:
    document = json.loads(exported(database, "planet", "json"))
    assert document["study"] == "planet"
    assert [trial["state"] for trial in document["trials"]] == [
        "COMPLETE",
        "COMPLETE",
        "PRUNED",
        "FAIL",
    ]
    assert document["trials"][1]["params"] == {"backbone": "<b>net</b>", "gamma": 0.81}
    epochs = [epoch for trial in document["trials"] for epoch in trial["epochs"]]
    kept = [row for row in judged if row["epoch"] is not None]
    for epoch, row in zip(epochs, kept, strict=True):
        assert row["metrics"].items() <= epoch.items()
        assert epoch["stage"] == row["stage"]
        assert datetime.fromisoformat(epoch["recorded"]) == row["recorded"]


@pytest.mark.parametrize("file_format", ["csv", "parquet", "json"])
def test_a_study_of_plain_optuna_has_what_it_was_told(
    file_format: Format, database: Database, plain_trials: list[optuna.trial.FrozenTrial]
) -> None:
    content = exported(database, NAME, file_format)
    reports = [
        (trial.number, step, value)
        for trial in plain_trials
        for step, value in sorted(trial.intermediate_values.items())
    ]
    assert len(reports) == 0 + 1 + 2 + 3 + 4 + 2
    params = [trial.params for trial in plain_trials]

    if file_format == "json":
        document = json.loads(content)
        assert document["study"] == NAME
        assert [trial["params"] for trial in document["trials"]] == params
        assert [trial["value"] for trial in document["trials"]][:4] == [3.5, 1.9, None, 1.25]
        found = [
            (trial["number"], epoch["epoch"], epoch["intermediate_value"])
            for trial in document["trials"]
            for epoch in trial["epochs"]
        ]
        assert found[:-2] == reports[:-2]
        assert [value for _, _, value in found[-2:]] == [None, None]
        return
    if file_format == "parquet":
        rows = parquet_rows(content)
        assert rows[0]["study"] == NAME
        assert rows[0]["params_kind"] == params[0]["kind"]
    else:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        assert rows[0]["study"] == "'" + NAME
        for row in rows:
            kind = params[int(row["number"])].get("kind", "")
            assert row["params_kind"] == ("'" + kind if kind.startswith("=") else kind)
    found = [
        (int(row["number"]), int(row["epoch"]), float(row["intermediate_value"]))
        for row in rows
        if row["epoch"] not in {None, ""}
    ]
    assert str(found) == str(reports)  # NaN is not equal to itself
    assert {int(row["number"]) for row in rows} == set(range(6))
    assert float(rows[0]["params_rate [1/s]"]) == params[0]["rate [1/s]"]


@pytest.mark.parametrize("file_format", ["csv", "parquet", "json"])
def test_all_objectives_of_a_study_are_written(file_format: Format, database: Database) -> None:
    name = f"two objectives as {file_format}"
    store = StudyStore(database)
    study = optuna.create_study(
        storage=store.optuna_storage, study_name=name, directions=["minimize", "maximize"]
    )
    study.tell(study.ask(), [0.25, 7.5])
    study.ask()
    store.close()

    content = exported(database, name, file_format)

    if file_format == "json":
        rows = json.loads(content)["trials"]
    elif file_format == "parquet":
        rows = parquet_rows(content)
    else:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
    first, running = [[row["values_0"], row["values_1"]] for row in rows]
    assert [float(value) for value in first] == [0.25, 7.5]
    assert not any(running)


def test_a_study_without_a_trial_has_the_columns_of_every_study(database: Database) -> None:
    store = StudyStore(database)
    store.open_study("empty")
    store.close()
    table = pyarrow.parquet.read_table(io.BytesIO(exported(database, "empty", "parquet")))
    assert table.num_rows == 0
    assert table.schema.field("began").type == pyarrow.timestamp("us", "UTC")
    header = exported(database, "empty", "csv").decode()
    assert header.rstrip("\n").split(",") == table.column_names
    assert json.loads(exported(database, "empty", "json")) == {"study": "empty", "trials": []}


def test_choices_of_several_types_become_texts_in_parquet(database: Database) -> None:
    store = StudyStore(database)
    study = store.open_study("odd")
    for choice in (1, "two", None, 2.5):
        study.enqueue_trial({"choice": choice})
        study.ask().suggest_categorical("choice", [1, "two", None, 2.5])
    store.close()
    rows = parquet_rows(exported(database, "odd", "parquet"))
    assert [row["params_choice"] for row in rows] == ["1", "two", None, "2.5"]
    document = json.loads(exported(database, "odd", "json"))
    choices = [trial["params"]["choice"] for trial in document["trials"]]
    assert choices == [1, "two", None, 2.5]


@pytest.mark.parametrize(
    ("path", "wanted", "expected"),
    [("a.csv", None, "csv"), ("b.PARQUET", None, "parquet"), ("c.csv", "json", "json")],
)
def test_the_format_is_the_option_s_or_the_ending_s(
    path: str, wanted: str | None, expected: str
) -> None:
    assert export_format(Path(path), wanted) == expected


@pytest.mark.parametrize(
    ("path", "wanted", "place"),
    [("a.xlsx", None, "--output a.xlsx: "), ("a.csv", "xls", "--format xls: ")],
    ids=["ending", "option"],
)
def test_another_format_is_refused(
    path: str, wanted: str | None, place: str, words: SnapshotAssertion
) -> None:
    with pytest.raises(ExportFormatError) as error:
        export_format(Path(path), wanted)
    assert str(error.value).startswith(place)
    assert str(error.value) == words


def test_the_command_writes_the_file(
    database: Database,
    judged: list[dict[str, Any]],
    tmp_path: Path,
    words: SnapshotAssertion,
) -> None:
    user = InProcess(tmp_path, database.url.render_as_string(hide_password=False))
    done = user.run("export", "--study", "planet", "--output", "out/trials.csv")
    for fact in ("4 trials", "7 epochs", "out/trials.csv\n"):
        assert fact in done.stderr
    assert done.stderr == words
    written = (tmp_path / "out" / "trials.csv").read_bytes()
    assert written == exported(database, "planet", "csv")
    piped = user.run("export", "--study", "planet", "--output", "o.txt", "--format", "json")
    assert json.loads((tmp_path / "o.txt").read_text())["study"] == "planet"
    assert piped.stdout == ""
    refused = user.run("export", "--study", "plane", "--output", "trials.csv", status=2)
    assert "'planet'" in refused.stderr
    assert not (tmp_path / "trials.csv").exists()


def _instants(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row whose times are comparable, however a reader of CSV understood them."""
    return {
        name: datetime.fromisoformat(str(value)).astimezone(UTC)
        if name in {"began", "ended", "recorded"} and value
        else value
        for name, value in row.items()
    }
