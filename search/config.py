"""``canopy.yaml`` → checked, frozen settings."""

from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from search.errors import ConfigError
from search.yaml_file import read_yaml
from training.errors import nearest_hint
from training.settings import DataSettings, Settings, TrainingSettings

DEFAULT_CONFIG = Path("canopy.yaml")
DEMO_CONFIG = Path(str(files("search") / "demo.yaml"))

Scalar = bool | int | float | str | None
MISSION_SPACE: dict[str, Any] = {
    "backbone": ["resnet18", "resnet50", "resnet152"],
    "loss": ["bce", "weighted_bce", "focal_bce"],
    "gamma": {"low": 0.80, "high": 1.00, "step": 0.01},
}


class RangeSettings(Settings):
    """A numeric range of the search space; whole numbers make an integer range."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False


class NamedSettings(Settings, extra="allow"):
    """A sampler or pruner by name, with its own parameters beside the name."""

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters beside the name."""
        return dict(self.__pydantic_extra__ or {})


class SearchSettings(Settings):
    """One study.

    Attributes:
        study: its name in the database.
        trials: total of finished trials, complete or pruned.
        workers: worker processes; this version runs one.
        sampler: who chooses the next setting.
        pruner: who ends hopeless trials early.
        seed: of every random choice of the sampler.
        max_failures: failed trials in a row that end the search.
        space: dotted name of a training setting → its values or its range.
        enqueue: settings to try first; a parameter that is left out is sampled.
    """

    study: Annotated[str, Field(min_length=1, max_length=200)] = "canopy"
    trials: Annotated[int, Field(ge=1)] = 40
    workers: Literal["auto", 1] = "auto"
    sampler: NamedSettings = NamedSettings(name="tpe")
    pruner: NamedSettings = NamedSettings(name="median")
    seed: Annotated[int, Field(ge=0)] = 0
    max_failures: Annotated[int, Field(ge=1)] = 3
    space: dict[str, list[Scalar] | RangeSettings] = Field(
        default_factory=lambda: dict(MISSION_SPACE), validate_default=True, min_length=1
    )
    enqueue: Annotated[tuple[dict[str, Scalar], ...], Field(strict=False)] = ()


class CanopyConfig(Settings):
    """A whole ``canopy.yaml``.

    Attributes:
        data: images and labels.
        training: one run; the search varies some of it.
        search: the study.
        stages: for the stage tree of a later version; no effect yet.
        clearml: for the mirror of a later version; no effect yet.
        provenance: where an exported setting comes from; read by people and by ``canopy train``.
    """

    data: DataSettings
    training: TrainingSettings = TrainingSettings()
    search: SearchSettings = SearchSettings()
    stages: dict[str, Any] | None = None
    clearml: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None

    def allowing_missing(self) -> "CanopyConfig":
        """Returns the configuration with ``data.allow_missing``."""
        data = self.data.model_copy(update={"allow_missing": True})
        return self.model_copy(update={"data": data})

    @property
    def idle_sections(self) -> list[str]:
        """The sections that are there and have no effect in this version."""
        return [name for name in ("stages", "clearml") if getattr(self, name) is not None]


def load_config(path: Path | None) -> CanopyConfig:
    """Reads a configuration.

    Args:
        path: the file; None means ``./canopy.yaml`` if it is there, else the built-in demo. Paths
            in the file are relative to its folder.

    Raises:
        ConfigError: the file cannot be read or used; one line for each thing that is wrong.
    """
    if path is None:
        path = DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else DEMO_CONFIG
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected the sections data, training and search")
    try:
        config = CanopyConfig.model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(detail) for detail in details if not _is_other_branch(detail)]
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems)) from error
    folder = path.resolve().parent
    located = {
        key: folder / value
        for key in ("labels", "images")
        if (value := getattr(config.data, key)) is not None
    }
    return config.model_copy(update={"data": config.data.model_copy(update=located)})


def _problem(detail: Any) -> str:
    """Says in one line where a value is wrong, what was found, and what would be right."""
    steps = [step for step in detail["loc"] if not _is_union_branch(step)]
    where = ".".join(str(step) for step in steps)
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key; {nearest_hint(str(steps[-1]), _known_keys(steps[:-1]))}"
    if detail["type"] == "missing":
        return f"{where}: missing"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if isinstance(detail["input"], dict | list) or detail["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, found {detail['input']!r}"


def _is_other_branch(detail: Any) -> bool:
    """Whether a range is only said to be no list, beside what is wrong with it as a range."""
    return detail["type"] == "list_type" and isinstance(detail["input"], dict)


def _is_union_branch(step: Any) -> bool:
    """Pydantic names the branch of a union that it tried; no key of ours is called so."""
    return isinstance(step, str) and ("[" in step or step in {"RangeSettings", "int", "float"})


def _known_keys(steps: list[Any]) -> list[str]:
    """Returns the keys that are right in the section that `steps` lead to."""
    model: type[BaseModel] = CanopyConfig
    for step in steps:
        if step not in model.model_fields:
            return list(RangeSettings.model_fields)
        annotation = model.model_fields[step].annotation
        models = [option for option in _options(annotation) if _is_model(option)]
        model = models[0] if models else RangeSettings
    return list(model.model_fields)


def _options(annotation: Any) -> list[Any]:
    if get_origin(annotation) in {Union, UnionType}:
        return [option for option in get_args(annotation) if option is not NoneType]
    return [annotation]


def _is_model(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, BaseModel)
