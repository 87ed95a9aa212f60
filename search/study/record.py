"""The record stored with a study: the data, settings and versions its trials ran with."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from canopy_search.dashboards.study.settings import differing, flat
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.errors import StudyDiffersError
from canopy_search.search.study.preflight import choices
from canopy_search.storage.study.parameters import describe
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.network.timm_models import is_timm
from canopy_search.training.network.weights_files import weights_identity
from canopy_search.training.settings import (
    ColumnSettings,
    SplitSettings,
    TrainingSettings,
    is_weights_file,
)
from canopy_search.training.stage_key import ENGINE_REVISION

PACKAGES = ("canopy-search", "optuna", "torch", "torchvision", "numpy", "pillow")
# Versions that change training results: all workers of a study must have the same.
DECISIVE = ("torch", "torchvision", "timm", "engine")
# Where the configuration says `auto`, a later start takes these from the study's first start.
RESOLVED = ("device", "precision", "threads", "compile")

# Settings that may change at a later start, because they do not change results.
FREE = frozenset({"training.device_cache", "training.gradient_checkpointing"})

# Values for studies that started before these settings existed.
DEFAULTS: dict[str, Any] = {
    "data": {
        "columns": ColumnSettings().model_dump(mode="json"),
        "split": SplitSettings().model_dump(mode="json"),
        "left_out": 0,
        "layout": "auto",
        "bands": None,
        "range": "auto",
        "background": "auto",
        "none": None,
    },
    "training": TrainingSettings().model_dump(mode="json") | {"compile": "off"},
}

Record = dict[str, Any]


def study_record(
    config: CanopyConfig, space: SearchSpace, training: TrainingSettings, dataset: Dataset
) -> Record:
    """Describes a study that starts now, as JSON values.

    Args:
        config: the whole configuration.
        space: the search space.
        training: the settings of a run with every ``auto`` resolved.
        dataset: the opened data.
    """
    local = {"labels", "images", "allow_missing", "follow_links"}
    data = config.data.model_dump(mode="json", exclude=local)
    # The names of lists, not where this machine has them.
    data["split"] |= {
        part: PurePosixPath(list_).name for part, list_ in config.data.split.lists.items()
    }
    fixed = training.model_dump(mode="json")
    fixed["device"] = fixed["device"].partition(":")[0]  # the index of the GPU makes no difference
    return {
        "data": {
            **data,
            "fingerprint": dataset.fingerprint,
            "labels": list(dataset.labels),
            "left_out": len(dataset.skipped),
        },
        "training": fixed,
        **_searched(config, space),
        "weights": {
            weights: weights_identity(weights)
            for weights in choices(space, "weights")
            if is_weights_file(weights)
        },
        "versions": {**_versions(space), "engine": ENGINE_REVISION},
        "git": git_state(Path.cwd()),
    }


def study_record_like(record: Record, config: CanopyConfig, space: SearchSpace) -> Record:
    """Describes a study with the data, fixed settings and versions of another study.

    Args:
        record: record of the other study.
        config: the whole configuration.
        space: the search space.
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
    """Returns `training` with each ``auto`` resolved as at the study's first start."""
    fixed = fixed_settings(record)
    before = {name: getattr(fixed, name) for name in RESOLVED if getattr(training, name) == "auto"}
    return training.model_copy(update=before)


def fixed_settings(record: Record) -> TrainingSettings:
    """Returns the settings that a study started with, without ``auto``."""
    return TrainingSettings.model_validate(DEFAULTS["training"] | record["training"])


def check_same_study(name: str, before: Record, now: Record) -> None:
    """Checks that a study resumes with the data, settings, space and versions of its first start.

    Raises:
        StudyDiffersError: they differ; one line per difference.
    """
    _check_same_settings(name, before, now)
    _check_same_versions(name, before.get("versions", {}), now["versions"])


def _check_same_settings(name: str, before: Record, now: Record) -> None:
    searched = {f"training.{parameter}" for parameter in now["space"]}
    old, new = (_with_contents(record) for record in (before, now))
    differences = [
        f"  {key}: {_short(was)} in the study, {_short(is_now)} now"
        for key, (was, is_now) in sorted(differing([flat(DEFAULTS) | old, new]).items())
        if key not in searched | FREE
    ]
    if differences:
        raise StudyDiffersError(
            f"study {name!r} was started with other data or settings:\n"
            + "\n".join(differences)
            + "\nrestore them, or start another study with --study NAME"
        )


def _with_contents(record: Record) -> dict[str, Any]:
    """Returns data, settings and space, with weights files by their content, wherever they are."""
    settings = flat({key: record[key] for key in ("data", "training", "space")})
    for file, content in record.get("weights", {}).items():
        for key in {"training.weights", "space.weights"} & settings.keys():
            settings[key] = str(settings[key]).replace(file, content)
    return settings


def _check_same_versions(name: str, before: Record, now: Record) -> None:
    """Compares the recorded versions; earlier releases of Canopy recorded fewer."""
    differing = [key for key in DECISIVE if key in before and before[key] != now[key]]
    if not differing:
        return
    lines = [f"  {key}: {before[key]} in the study, {now[key]} here" for key in differing]
    packages = ["canopy-search" if key == "engine" else key for key in differing]
    remedy = " ".join(f"{package}=={before[package]}" for package in packages)
    raise StudyDiffersError(
        f"study {name!r} was started with other versions, which give different results:\n"
        + "\n".join(lines)
        + f"\ninstall the study's versions here (pip install {remedy}), "
        "or start another study with --study NAME"
    )


def package_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _versions(space: SearchSpace) -> dict[str, str]:
    """Returns the versions of packages that the results of a study depend on."""
    uses_timm = any(map(is_timm, choices(space, "backbone")))
    return package_versions() | ({"timm": version("timm")} if uses_timm else {})


def git_state(folder: Path) -> dict[str, Any] | None:
    """Returns the commit of `folder` and whether it has changes; None outside of git."""
    try:
        commit, changes = (
            subprocess.run(
                # In an unpacked archive the monitor may be the program of a stranger.
                ["git", "-c", "core.fsmonitor=false", *arguments],  # noqa: S607 - the user's own
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


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
