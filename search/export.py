"""The best trial → YAML that is itself a configuration."""

from datetime import UTC, datetime
from typing import Any

from ruamel.yaml.comments import CommentedMap

from dashboards.summary import StudySummary, TrialSummary
from dashboards.tables import ap_text
from search.errors import NothingFoundError
from search.record import Record
from search.space import with_params
from search.yaml_file import yaml_text
from training.settings import DataSettings, TrainingSettings


def best_trial(summary: StudySummary) -> TrialSummary:
    """Returns the complete trial with the best validation AP.

    Raises:
        NothingFoundError: the study has no complete trial yet.
    """
    if summary.best is None:
        raise NothingFoundError(
            f"study {summary.study!r} has no complete trial yet; go on with canopy search"
        )
    return summary.best


def best_yaml(summary: StudySummary, record: Record, data: DataSettings | None = None) -> str:
    """Returns the best trial as a commented ``canopy.yaml``.

    Args:
        summary: the study as it stands.
        record: what it was begun with.
        data: where the data is now; None for where it was when the study began.

    Raises:
        NothingFoundError: the study has no complete trial yet.
    """
    trial = best_trial(summary)
    places = data.model_dump(mode="json", include={"labels", "images"}) if data else {}
    document = CommentedMap()
    document["data"] = _without_none(record["config"]["data"] | places)
    document["training"] = _training(trial, record)
    document["provenance"] = provenance(summary, trial, record)
    document.yaml_set_start_comment(
        f"The best of {summary.finished} finished trials of study {summary.study}: trial "
        f"{trial.number}, validation AP {ap_text(trial.val_ap)}.\n"
        "A canopy.yaml of its own: `canopy train` with this file trains it in full and tests it.\n"
    )
    document.yaml_set_comment_before_after_key("training", before="\none run, every setting")
    document.yaml_set_comment_before_after_key(
        "provenance", before="\nwhere it comes from; nothing here changes a run"
    )
    return yaml_text(document)


def provenance(summary: StudySummary, trial: TrialSummary, record: Record) -> dict[str, Any]:
    """Returns where a setting comes from: study, trial, metrics, versions and data."""
    search = record["config"]["search"]
    return {
        "study": summary.study,
        "trial": trial.number,
        "val_ap": trial.val_ap,
        "params": trial.params,
        "metrics": trial.metrics[-1],
        "trials_finished": summary.finished,
        "search": {
            **{key: search[key] for key in ("sampler", "pruner", "seed")},
            "space": record["space"],
        },
        "data_fingerprint": record["data"]["fingerprint"],
        "versions": record["versions"],
        "git": record["git"],
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _training(trial: TrialSummary, record: Record) -> CommentedMap:
    """Returns all settings of the trial's run; those that were searched are marked."""
    fixed = TrainingSettings.model_validate(record["training"])
    document = CommentedMap(with_params(fixed, trial.params).model_dump(mode="json"))
    if record["config"]["training"]["device"] == "auto":
        document["device"] = "auto"  # the GPU of this machine means nothing to the next one
    for name in trial.params:
        section, _, key = name.rpartition(".")
        if section:
            document[section] = CommentedMap(document[section])
            document[section].yaml_add_eol_comment("searched", key)
        else:
            document.yaml_add_eol_comment("searched", key)
    return document


def _without_none(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}
