"""What is kept with a study, so that it is known for good what its trials ran on."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import SearchSpace, describe
from canopy_search.search.errors import StudyDiffersError
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.settings import ColumnSettings, SplitSettings, TrainingSettings
from canopy_search.training.stage_key import ENGINE_REVISION

PACKAGES = ("canopy-search", "optuna", "torch", "torchvision", "numpy", "pillow")
# What changes the numbers of training: the workers of a study have the same.
DECISIVE = ("torch", "torchvision", "engine")
# On these a later start follows the study's first one wherever the configuration says `auto`.
RESOLVED = ("device", "precision", "threads", "compile")

# What may be another at a later start, because it changes no number.
FREE = frozenset({"training.device_cache"})

# What a study meant that began before there was such a setting.
DEFAULTS: dict[str, Any] = {
    "data": {
        "columns": ColumnSettings().model_dump(mode="json"),
        "split": SplitSettings().model_dump(mode="json"),
        "left_out": 0,
    },
    "training": {"compile": "off"},
}

Record = dict[str, Any]


def study_record(
    config: CanopyConfig, space: SearchSpace, training: TrainingSettings, dataset: Dataset
) -> Record:
    """Describes a study that begins now, as JSON values.

    Args:
        config: the whole configuration.
        space: what is searched.
        training: the settings of a run with every ``auto`` resolved.
        dataset: the opened data.
    """
    data = config.data.model_dump(mode="json", exclude={"labels", "images", "allow_missing"})
    fixed = training.model_dump(mode="json")
    fixed["device"] = fixed["device"].partition(":")[0]  # which GPU it was changes nothing
    return {
        "data": {
            **data,
            "fingerprint": dataset.fingerprint,
            "labels": list(dataset.labels),
            "left_out": len(dataset.skipped),
        },
        "training": fixed,
        **_searched(config, space),
        "versions": {**package_versions(), "engine": ENGINE_REVISION},
        "git": git_state(Path.cwd()),
    }


def study_record_like(record: Record, config: CanopyConfig, space: SearchSpace) -> Record:
    """Describes a study with the data, fixed settings and versions of another one.

    Args:
        record: of the other one.
        config: the whole configuration.
        space: what is searched.
    """
    return {**record, **_searched(config, space)}


def _searched(config: CanopyConfig, space: SearchSpace) -> Record:
    return {
        "space": {name: describe(domain) for name, domain in space.distributions.items()},
        "config": config.model_dump(
            mode="json", exclude={"provenance", "stages", "confirm", "clearml"}
        ),
    }


def resolved_as_before(training: TrainingSettings, record: Record) -> TrainingSettings:
    """Returns `training` with what the study resolved at its first start in place of ``auto``."""
    known = fixed_settings(record)
    before = {name: getattr(known, name) for name in RESOLVED if getattr(training, name) == "auto"}
    return training.model_copy(update=before)


def fixed_settings(record: Record) -> TrainingSettings:
    """Returns the settings that a study began with, without ``auto``."""
    return TrainingSettings.model_validate(DEFAULTS["training"] | record["training"])


def check_same_study(name: str, before: Record, now: Record) -> None:
    """Checks that a study goes on with the data, settings, space and versions that it began with.

    Raises:
        StudyDiffersError: they differ; one line a difference.
    """
    _check_same_settings(name, before, now)
    _check_same_versions(name, before.get("versions", {}), now["versions"])


def _check_same_settings(name: str, before: Record, now: Record) -> None:
    searched = {f"training.{parameter}" for parameter in now["space"]}
    old, new = (
        _flat({key: record[key] for key in ("data", "training", "space")})
        for record in (before, now)
    )
    old = _flat(DEFAULTS) | old
    differences = [
        f"  {key}: {_short(old.get(key))} in the study, {_short(new.get(key))} now"
        for key in sorted(old.keys() | new.keys())
        if key not in searched | FREE and old.get(key) != new.get(key)
    ]
    if differences:
        raise StudyDiffersError(
            f"study {name!r} began with other data or settings:\n"
            + "\n".join(differences)
            + "\nput them back, or begin another study with --study NAME"
        )


def _check_same_versions(name: str, before: Record, now: Record) -> None:
    """Compares what the study has recorded; an earlier Canopy recorded less."""
    differing = [key for key in DECISIVE if key in before and before[key] != now[key]]
    if not differing:
        return
    lines = [f"  {key}: {before[key]} in the study, {now[key]} here" for key in differing]
    packages = ["canopy-search" if key == "engine" else key for key in differing]
    remedy = " ".join(f"{package}=={before[package]}" for package in packages)
    raise StudyDiffersError(
        f"study {name!r} began with other versions, which give other numbers:\n"
        + "\n".join(lines)
        + f"\ninstall the study's here (pip install {remedy}), or begin another study with "
        "--study NAME"
    )


def package_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Returns the commit that `folder` is at and whether it has changes; None outside of git."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments],  # noqa: S607 - the user's own git
                cwd=folder,
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}


def _flat(document: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(document, dict):
        return {prefix: document}
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
