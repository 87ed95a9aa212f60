"""``canopy.yaml`` → checked, frozen settings."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from canopy_search.filestore.urls import is_url
from canopy_search.filestore.user_files import real_path
from canopy_search.search.config.quoting import found_text, shown_path
from canopy_search.search.config.settings import CanopyConfig, StagesSettings
from canopy_search.search.config.space import SearchSpace, parse_space
from canopy_search.search.config.validation_messages import problem_lines
from canopy_search.search.config.yaml_file import read_yaml
from canopy_search.search.errors import ConfigError, SearchError
from canopy_search.search.scheduling.factory import check_sampling
from canopy_search.training.settings import Settings

DEFAULT_CONFIG = Path("canopy.yaml")
DEMO_CONFIG = Path(str(files("canopy_search.search.config") / "demo.yaml"))


class _StagesSection(Settings, extra="ignore"):
    stages: StagesSettings = StagesSettings()


Kind = TypeVar("Kind", bound=Settings)


@dataclass(frozen=True)
class Configuration:
    """Settings that have been checked as far as possible without data and database.

    Attributes:
        settings: all settings.
        space: the search space of these settings.
    """

    settings: CanopyConfig
    space: SearchSpace


def checked(settings: CanopyConfig) -> Configuration:
    """Checks the search space, the sampler and the pruner of settings.

    Raises:
        SearchSpaceError: the space or an enqueued setting is invalid.
        SamplerError: the sampler or pruner cannot be used.
    """
    space = parse_space(settings.search, settings.training)
    check_sampling(settings.search, space, settings.training.epochs)
    return Configuration(settings, space)


def load_config(path: Path | None, *, allow_missing: bool = False) -> Configuration:
    """Reads a configuration, and checks everything that needs neither data nor database.

    Args:
        path: the file; None means ``./canopy.yaml`` if it exists, else the built-in demo. Paths
            in the file are relative to its folder; URLs stay as they are.
        allow_missing: sets ``data.allow_missing``, overriding the file.

    Raises:
        ConfigError: the file cannot be read or used; one line per problem.
    """
    path = path or _default_config()
    folder = real_path(path).parent
    config = _with_weights_located(_settings(path, CanopyConfig), folder)
    config = _with_fitting_space(config)
    try:
        space = checked(config).space
    except SearchError as error:
        raise _problems_of(path, *str(error).splitlines()) from error
    data: dict[str, Any] = {
        key: folder / _expanded(value)
        for key in ("labels", "images")
        if isinstance(value := getattr(config.data, key), Path)
    }
    lists: dict[str, Any] = {
        part: folder / _expanded(list_) if isinstance(list_, Path) else list_
        for part, list_ in config.data.split.lists.items()
    }
    if lists:
        data["split"] = config.data.split.model_copy(update=lists)
    if allow_missing:
        data["allow_missing"] = True
    updates: dict[str, Any] = {
        "data": config.data.model_copy(update=data),
        "stages": _located(config.stages, folder),
    }
    if config.search.diary is not None:
        diary = {"diary": folder / _expanded(config.search.diary)}
        updates["search"] = config.search.model_copy(update=diary)
    return Configuration(config.model_copy(update=updates), space)


def _with_fitting_space(config: CanopyConfig) -> CanopyConfig:
    """Leaves gamma out of the default space if the learning rate has another schedule."""
    search = config.search
    if "space" in search.model_fields_set or config.training.schedule.name == "exponential":
        return config
    space = {name: domain for name, domain in search.space.items() if name != "gamma"}
    return config.model_copy(update={"search": search.model_copy(update={"space": space})})


def _with_weights_located(config: CanopyConfig, folder: Path) -> CanopyConfig:
    """Returns `config` with weights files relative to `folder`, wherever they are named."""

    def located(weights: Any) -> Any:
        if not isinstance(weights, str) or is_url(weights) or not Path(weights).suffix:
            return weights
        return str(folder / _expanded(Path(weights)))

    search, name = config.search, "weights"
    domain = search.space.get(name)
    if isinstance(domain, list):
        updates = {
            "space": {**search.space, name: [located(value) for value in domain]},
            "enqueue": tuple(
                {key: located(value) if key == name else value for key, value in each.items()}
                for each in search.enqueue
            ),
        }
        search = search.model_copy(update=updates)
    training = config.training.model_copy(update={name: located(config.training.weights)})
    return config.model_copy(update={"search": search, "training": training})


def load_stages(path: Path | None) -> StagesSettings:
    """Reads section ``stages`` alone, so that the others may have problems.

    Args:
        path: as for `load_config`.

    Raises:
        ConfigError: the file is not YAML, or the section cannot be used; one line per problem.
    """
    path = path or _default_config()
    return _located(_settings(path, _StagesSection).stages, real_path(path).parent)


def _settings(path: Path, kind: type[Kind]) -> Kind:
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise _problems_of(
            path,
            f"expected the sections data, training and search, found {found_text(document)}",
        )
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise _problems_of(path, *problem_lines(error, document)) from error


def _located(stages: StagesSettings, folder: Path) -> StagesSettings:
    """Returns stage settings with the folder of checkpoints relative to that of the file."""
    if stages.checkpoints == "auto" or "://" in stages.checkpoints:
        return stages
    checkpoints = str(folder / _expanded(Path(stages.checkpoints)))
    return stages.model_copy(update={"checkpoints": checkpoints})


def _expanded(path: Path) -> Path:
    """`path` with ``~`` expanded to the home folder, if that user exists."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _default_config() -> Path:
    # A broken link or a file ending in .yml is an error, not a reason to use the demo.
    if DEFAULT_CONFIG.exists() or DEFAULT_CONFIG.is_symlink():
        return DEFAULT_CONFIG
    misnamed = DEFAULT_CONFIG.with_suffix(".yml")
    if misnamed.exists():
        raise _problems_of(
            misnamed, f"rename it to {DEFAULT_CONFIG}, or name it with --config {misnamed}"
        )
    return DEMO_CONFIG


def _problems_of(path: Path, *problems: str) -> ConfigError:
    where = shown_path(path)
    return ConfigError("\n".join(f"{where}: {problem}" for problem in problems))
