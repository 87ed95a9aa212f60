"""The best trial → YAML that is itself a configuration."""

import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ruamel.yaml.comments import CommentedMap

from canopy_search.dashboards.answer.confirmation_text import confirmation_lines
from canopy_search.dashboards.answer.verified import verified
from canopy_search.dashboards.formatting.values import ap_text
from canopy_search.dashboards.study.baseline import SEED
from canopy_search.dashboards.study.confirmation import METHOD, Confirmation, Confirmed, Run
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.search.config.settings import StagesSettings
from canopy_search.search.config.space import with_params
from canopy_search.search.config.yaml_file import yaml_text
from canopy_search.search.errors import NothingFoundError
from canopy_search.search.study.record import Record, fixed_settings
from canopy_search.training.settings import DataSettings


def best_trial(summary: StudyData) -> TrialData:
    """Returns the complete trial with the best validation AP.

    Raises:
        NothingFoundError: the study has no complete trial yet.
    """
    if summary.best is None:
        raise NothingFoundError(
            f"study {summary.name!r} has no complete trial yet; resume with: canopy search"
        )
    return summary.best


COMMENT_WIDTH = 96
ACCUMULATION = "accumulation"


@dataclass(frozen=True)
class Choice:
    """A setting to export, with one run of it.

    Attributes:
        trial: number of its trial in the search, if it had one.
        params: the searched parameters.
        run_params: the parameters of the run, in addition to the study's fixed settings.
        val_ap: validation AP of the run.
        metrics: metrics of the run's last epoch.
        chosen: why it was chosen, as text.
        confirmation: the same as JSON values, if finalists were confirmed.
    """

    trial: int | None
    params: dict[str, Any]
    run_params: dict[str, Any]
    val_ap: float | None
    metrics: dict[str, Any]
    chosen: str
    confirmation: dict[str, Any] | None = None


def best_choice(summary: StudyData, confirmation: Confirmation | None = None) -> Choice:
    """Returns the best setting by all results so far.

    If the finalists were confirmed, it is the setting with the best mean, and its run is the one
    with the first of the additional seeds: the best seed's score would not predict the next one.

    Args:
        summary: the current state of the study.
        confirmation: the latest confirmation, if there is one.

    Raises:
        NothingFoundError: the study has no complete trial yet.
    """
    if confirmation is not None and confirmation.winner is not None:
        return _confirmed_choice(confirmation, confirmation.winner)
    trial = best_trial(summary)
    chosen = (
        f"The best of {summary.finished} finished trials of study {summary.name}: trial "
        f"{trial.number}, validation AP {ap_text(trial.val_ap)}."
    )
    if confirmation is not None:
        chosen += "\nNot confirmed: the current finalists lack runs; canopy confirm adds them."
    return Choice(
        trial=trial.number,
        params=trial.params,
        run_params={**trial.params, **_split(trial)},
        val_ap=trial.val_ap,
        metrics=trial.metrics[-1],
        chosen=chosen,
    )


def _split(run: TrialData | Run) -> dict[str, Any]:
    """Returns the setting with which a run's batches are split as they were."""
    return {ACCUMULATION: run.accumulation} if run.accumulation else {}


def _confirmed_choice(confirmation: Confirmation, winner: Confirmed) -> Choice:
    run, candidate = winner.runs[0], winner.candidate
    document = confirmation.as_json()
    base = "" if confirmation.base.candidate.is_finalist else " and the baseline"
    chosen = (
        f"Chosen by mean validation AP over {len(confirmation.seeds)} additional seeds, from "
        f"{confirmation.finalists} finalists{base} of study {confirmation.study}.\n"
        + "\n".join(_sentence(line) for line in confirmation_lines(confirmation))
        + "\nThe seed below is the first of these seeds; its run is trial "
        f"{run.trial} of study {confirmation.confirming}."
    )
    return Choice(
        trial=candidate.trial,
        params=candidate.params,
        run_params={**candidate.params, SEED: run.seed, **_split(run)},
        val_ap=run.val_ap,
        metrics=run.last,
        chosen=chosen,
        confirmation={
            "study": confirmation.confirming,
            "trial": run.trial,
            "finalists": confirmation.finalists,
            "seeds": list(confirmation.seeds),
            "method": METHOD,
            "val_ap": winner.val_ap and winner.val_ap.as_json(),
            "test_ap": winner.test_ap and winner.test_ap.as_json(),
            **{key: document[key] for key in ("against_second", "against_baseline")},
        },
    )


def _sentence(line: str) -> str:
    text = line[0].upper() + line[1:] + "."
    return textwrap.fill(text, COMMENT_WIDTH, subsequent_indent="  ", break_long_words=False)


def best_yaml(
    summary: StudyData,
    record: Record,
    confirmation: Confirmation | None = None,
    data: DataSettings | None = None,
    stages: StagesSettings | None = None,
) -> str:
    """Returns the best setting as a commented ``canopy.yaml``.

    Args:
        summary: the current state of the study.
        record: the study's record from its first start.
        confirmation: the latest confirmation, if there is one.
        data: where the data is now; None for where it was when the study started.
        stages: where the study's checkpoints are now; None for the default.

    Raises:
        NothingFoundError: the study has no complete trial yet.
    """
    choice = best_choice(summary, confirmation)
    paths = data.model_dump(mode="json", include={"labels", "images"}) if data else {}
    document = CommentedMap()
    document["data"] = _without_none(record["config"]["data"] | paths)
    document["training"] = _training(choice, record)
    if stages is not None and stages != StagesSettings():
        document["stages"] = CommentedMap(stages.model_dump(mode="json", exclude_defaults=True))
    document["provenance"] = provenance(summary, choice, record)
    verification = verified(summary)
    verified_text = f"{verification.text}\n" if verification and verification.text else ""
    document.yaml_set_start_comment(
        f"{choice.chosen}\n{verified_text}"
        "A complete canopy.yaml: `canopy train` with this file trains it in full and tests it.\n"
    )
    document.yaml_set_comment_before_after_key("training", before="\none run, every setting")
    document.yaml_set_comment_before_after_key(
        "provenance", before="\nwhere this setting comes from; nothing here changes a run"
    )
    return yaml_text(document)


def provenance(summary: StudyData, choice: Choice, record: Record) -> dict[str, Any]:
    """Returns the origin of a setting: study, trial, metrics, versions and data."""
    search = record["config"]["search"]
    return {
        "study": summary.name,
        "trial": choice.trial,
        "val_ap": choice.val_ap,
        "params": choice.params,
        "metrics": choice.metrics,
        **({"confirmation": choice.confirmation} if choice.confirmation else {}),
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


def _training(choice: Choice, record: Record) -> CommentedMap:
    """Returns all settings of the run; searched ones are marked."""
    fixed = fixed_settings(record)
    document = CommentedMap(with_params(fixed, choice.run_params).model_dump(mode="json"))
    if record["config"]["training"]["device"] == "auto":
        document["device"] = "auto"  # this machine's GPU is meaningless on another machine
    if ACCUMULATION in choice.run_params:
        document.yaml_add_eol_comment("memory ran out: [from epoch, parts]", ACCUMULATION)
    if choice.confirmation is not None:
        document.yaml_add_eol_comment("the first of the additional seeds", SEED)
    for name in choice.params:
        section, _, key = name.rpartition(".")
        if section:
            document[section] = CommentedMap(document[section])
            document[section].yaml_add_eol_comment("searched", key)
        else:
            document.yaml_add_eol_comment("searched", key)
    return document


def _without_none(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}
