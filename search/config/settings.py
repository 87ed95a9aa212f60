"""The settings of a whole ``canopy.yaml``: data, training and the study, checked and frozen."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from canopy_search.dashboards.formatting.values import is_harmless
from canopy_search.filestore.errors import FileStoreUrlError
from canopy_search.filestore.urls import check_url
from canopy_search.search.config.quoting import shown_text
from canopy_search.storage.study.enqueued import EnqueuedSetting, enqueued_settings
from canopy_search.training.settings import DataSettings, Settings, TrainingSettings

Scalar = bool | int | float | str | None
MISSION_SPACE: dict[str, Any] = {
    "backbone": ["resnet18", "resnet50", "resnet152"],
    "loss": ["bce", "weighted_bce", "focal_bce"],
    "gamma": {"low": 0.80, "high": 1.00, "step": 0.01},
}
LONGEST_STUDY_NAME = 200
_SHORTEST_PROJECT_NAME = 3
_SECRET_WORDS = ("key", "secret", "credential", "token", "password")
MOST_WORKERS = 256
MOST_SEEDS = 1000

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def check_study_name(name: str) -> str:
    """Returns the name of a study if it is valid and safe to display.

    Raises:
        ValueError: it is empty or too long, or contains control characters or line breaks.
    """
    if not name.strip():
        raise ValueError("expected a study name, found none; write one")
    if len(name) > LONGEST_STUDY_NAME:
        raise ValueError(
            f"expected a name of at most {LONGEST_STUDY_NAME} characters, found {len(name)}; "
            "shorten it"
        )
    if not is_harmless(name):
        raise ValueError(f"control characters in {shown_text(name)}; remove them")
    return name


def check_diary(path: Path) -> Path:
    """Returns the path of a diary if it has a file name.

    Raises:
        ValueError: it has no file name.
    """
    if not path.name:
        raise ValueError(
            f"expected a file such as EXPERIMENTS.md, found {shown_text(str(path))}; correct it"
        )
    return path


def check_project_name(name: str) -> str:
    """Returns the name of a project if ClearML accepts it.

    Raises:
        ValueError: it is too short, or contains control characters or line breaks.
    """
    if len(name.strip()) < _SHORTEST_PROJECT_NAME:
        raise ValueError(
            f"expected a name of at least {_SHORTEST_PROJECT_NAME} characters, found "
            f"{shown_text(name)}; ClearML accepts no shorter name"
        )
    if not is_harmless(name):
        raise ValueError(f"control characters in {shown_text(name)}; remove them")
    return name


def check_address(address: str) -> str:
    """Returns the address of a web server without a trailing slash.

    Raises:
        ValueError: it is not an address, or contains a user or a password.
    """
    try:
        parts = urlsplit(address)
        has_host = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        has_host = False
    if "@" in address:
        raise ValueError("expected an address without user and password; remove them")
    if not has_host or not is_harmless(address):
        raise ValueError(
            f"expected an address such as http://HOST:8008, found {shown_text(address)}; correct it"
        )
    return address.rstrip("/")


class RangeSettings(Settings):
    """A numeric range of the search space; whole numbers make an integer range."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False


class NamedSettings(Settings, extra="allow"):
    """A sampler or pruner by name, with its own parameters next to the name."""

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters without the name."""
        return dict(self.__pydantic_extra__ or {})


def default_verify(pruner: NamedSettings) -> float:
    """Returns the default share of the epochs that verify the answer under a pruner."""
    return 0.2 if pruner.name == "branches" else 0.0


class StopSettings(Settings):
    """Conditions that end a search before it has all its trials.

    Attributes:
        no_improvement_trials: number of trials after the best one without an improvement.
    """

    no_improvement_trials: Annotated[int, Field(ge=1)] | None = None


class SearchSettings(Settings):
    """One study.

    Attributes:
        study: its name in the database.
        trials: total of finished trials, complete or pruned.
        workers: worker processes on this machine; ``auto`` is one for each device slot.
        slots_per_gpu: workers that share a GPU.
        sampler: chooses the next setting.
        pruner: stops unpromising trials early.
        seed: seed of the sampler.
        max_failures: failed trials in a row that end the search, or the worker on which all of them
            failed if others are healthy.
        max_failures_total: failed trials in total that end the search.
        max_trial_s: training time after which a trial is pruned, in seconds.
        stall_s: seconds without progress after which a trial fails.
        stop_when: conditions that end the search before it has all its trials.
        diary: file for the study's diary, written when a search ends; None for no diary.
        space: dotted name of a training setting → its values or its range.
        verify: share of the epochs trained so far that is spent at the end of the search on the
            trials whose pruning would be the worst mistake; 0 for none, ``auto`` for a fifth with
            the pruner ``branches`` and none with another.
        enqueue: settings to try first; a missing parameter is sampled. One with ``full: true`` is
            never pruned; by default that is the first one, the baseline.
    """

    study: Annotated[str, AfterValidator(check_study_name)] = "canopy"
    trials: Annotated[int, Field(ge=1)] = 40
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_WORKERS)] = "auto"
    slots_per_gpu: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 1
    sampler: NamedSettings = NamedSettings(name="tpe")
    pruner: NamedSettings = NamedSettings(name="branches")
    seed: Annotated[int, Field(ge=0)] = 0
    max_failures: Annotated[int, Field(ge=1)] = 3
    max_failures_total: Annotated[int, Field(ge=1)] = 20
    max_trial_s: Seconds | None = None
    stall_s: Seconds | None = 1800.0
    stop_when: StopSettings = StopSettings()
    verify: Literal["auto"] | Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = "auto"
    diary: Annotated[Path, Field(strict=False), AfterValidator(check_diary)] | None = None
    space: dict[str, list[Scalar] | RangeSettings] = Field(
        default_factory=lambda: dict(MISSION_SPACE), validate_default=True, min_length=1
    )
    enqueue: Annotated[tuple[dict[str, Scalar], ...], Field(strict=False)] = ()

    @property
    def verified_share(self) -> float:
        """`verify` without ``auto``."""
        return default_verify(self.pruner) if self.verify == "auto" else self.verify

    @property
    def enqueued(self) -> list[EnqueuedSetting]:
        """The settings to try first."""
        return enqueued_settings(self.enqueue)


def check_checkpoints(location: str) -> str:
    """Returns the folder or URL of the checkpoints if it contains no secret.

    Raises:
        ValueError: it is a URL that contains a secret.
    """
    try:
        check_url(location)
    except FileStoreUrlError as error:
        raise ValueError(str(error)) from error
    return location


class StagesSettings(Settings):
    """The stage tree.

    Attributes:
        enabled: whether trials share common epochs.
        checkpoints: ``auto`` for a folder below the state folder; else a folder, or any URL that
            fsspec supports.
        budget_gib: disk budget of all checkpoints, in GiB; ``auto`` for a quarter of the free disk.
    """

    enabled: bool = True
    checkpoints: Annotated[str, Field(min_length=1), AfterValidator(check_checkpoints)] = "auto"
    budget_gib: Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] = "auto"


class ConfirmSettings(Settings):
    """The confirmation after a search: finalists and the baseline with additional seeds, tested.

    Attributes:
        top: number of finalists.
        seeds: additional seeds of each of them; at least two, for a spread; a verdict needs three.
    """

    top: Annotated[int, Field(ge=1)] = 3
    seeds: Annotated[int, Field(ge=2, le=MOST_SEEDS)] = 5


class ClearMLSettings(Settings):
    """The ClearML mirror; credentials belong in ClearML's own configuration, never here.

    Attributes:
        enabled: whether a search is mirrored if ClearML is configured.
        project: ClearML project of a study's tasks; ``Canopy/STUDY`` by default.
        api_server: address of the API; nothing is mirrored unless it is the server of the user's
            own configuration.
        web_server: address of the web pages that links point to, overriding that configuration.
        files_server: address of the file server, likewise; on the host of the API server, or the
            one of that configuration.
    """

    enabled: bool = True
    project: Annotated[str, AfterValidator(check_project_name)] | None = None
    api_server: Annotated[str, AfterValidator(check_address)] | None = None
    web_server: Annotated[str, AfterValidator(check_address)] | None = None
    files_server: Annotated[str, AfterValidator(check_address)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _holds_no_secrets(cls, document: Any) -> Any:
        for key in document if isinstance(document, dict) else ():
            if any(word in str(key).lower() for word in _SECRET_WORDS):
                raise ValueError(
                    f"{shown_text(str(key))} does not belong in a configuration that is kept and "
                    "shared; remove it, and run clearml-init, or set CLEARML_API_ACCESS_KEY and "
                    "CLEARML_API_SECRET_KEY"
                )
        return document


class CanopyConfig(Settings):
    """A whole ``canopy.yaml``.

    Attributes:
        data: images and labels.
        training: settings of one run; the search varies some of them.
        search: the study.
        stages: the stage tree.
        confirm: the confirmation after the search, if any.
        clearml: the ClearML mirror.
        provenance: origin of an exported setting; read by users and by ``canopy train``.
    """

    data: DataSettings
    training: TrainingSettings = TrainingSettings()
    search: SearchSettings = SearchSettings()
    stages: StagesSettings = StagesSettings()
    confirm: ConfirmSettings | None = None
    clearml: ClearMLSettings | None = None
    provenance: dict[str, Any] | None = None
