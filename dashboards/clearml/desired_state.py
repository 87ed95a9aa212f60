"""What a task in ClearML should look like: plain values, comparable with what was sent."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.study.summary import TrialSummary

CREATED, RUNNING, COMPLETED, STOPPED, FAILED = (
    "created",
    "in_progress",
    "completed",
    "stopped",
    "failed",
)
FINAL = (COMPLETED, STOPPED, FAILED)

SHORTEST_NAME = 3

BEST_TAG = "best"
PASSING_TAGS = frozenset(
    {
        BEST_TAG,
        "waiting",
        "running",
        "paused",
        "interrupted",
        "complete",
        "pruned",
        "failed",
    }
)
"""Tags that a trial may lose again; the others of its task it has for good."""

_STATES = {
    TrialState.COMPLETE.name: COMPLETED,
    TrialState.PRUNED.name: STOPPED,
    TrialState.FAIL.name: FAILED,
    TrialState.WAITING.name: CREATED,
}


@dataclass(frozen=True)
class Scalar:
    """One point of a curve.

    Attributes:
        group: title of the graph.
        series: of the graph.
        step: the epoch, or the number of finished trials.
        value: finite.
        at_ms: when it was measured, in milliseconds since 1970.
    """

    group: str
    series: str
    step: int
    value: float
    at_ms: int


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        group: its title.
        series: distinguishes figures of the same title.
        figure: Plotly's ``data`` and ``layout`` as JSON.
    """

    group: str
    series: str
    figure: str

    @property
    def key(self) -> str:
        """Tells it from the other figures of its task."""
        return f"{self.group}/{self.series}"


@dataclass(frozen=True)
class LogLine:
    """One line of a console log.

    Attributes:
        at_ms: when it was said, in milliseconds since 1970.
        text: what was said.
        level: ``info`` or ``error``.
    """

    at_ms: int
    text: str
    level: str = "info"


@dataclass(frozen=True)
class DesiredTask:
    """What a task should look like.

    Attributes:
        number: of its trial, or `storage.study.mirrored.STUDY_TASK`.
        identity: a tag that no other task has.
        name: for people, at least three characters.
        type: ``training`` or ``optimizer``.
        state: where its life should stand.
        reason: why it stands there, if there is something to say.
        comment: shown as its description.
        tags: the identity among them.
        hyperparams: section → name → value.
        configuration: name → (format, text).
        scalars: in the order of their steps, which are whole numbers from 1 on without gaps.
        plots: all of them.
        lines: all of them, in an order that more lines do not change.
    """

    number: int
    identity: str
    name: str
    type: str
    state: str
    reason: str = ""
    comment: str = ""
    tags: tuple[str, ...] = ()
    hyperparams: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    configuration: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    scalars: tuple[Scalar, ...] = ()
    plots: tuple[Plot, ...] = ()
    lines: tuple[LogLine, ...] = ()

    @property
    def steps(self) -> int:
        """The last step that it has scalars of; 0 for none."""
        return max((scalar.step for scalar in self.scalars), default=0)

    @property
    def parts(self) -> dict[str, str]:
        """Digests of what can be edited: a part whose digest is another one has changed."""
        parts = {
            "name": self.name,
            "comment": self.comment,
            "hyperparams": self.hyperparams,
            "configuration": self.configuration,
        }
        return {name: digest(value) for name, value in parts.items()}


def task_state(trial: TrialSummary) -> str:
    """Returns where the life of a trial's task should stand; one that pauses still runs."""
    return _STATES.get(trial.state, RUNNING)


def identity_tag(database_id: str, study_id: int, number: int) -> str:
    """Returns a tag that tells a task from all others, of any database, study and trial."""
    return f"canopy:{digest([database_id, study_id, number])}"


def digest(value: Any) -> str:
    """Returns a short text that is another one for another value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_of(value: Any) -> str:
    """Returns a setting's value as ClearML's table shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, default=str, ensure_ascii=False)


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def is_number(value: Any) -> bool:
    """Whether a value can be a point of a curve."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def long_enough(name: str) -> str:
    """Returns a name that the server takes."""
    return name if len(name) >= SHORTEST_NAME else name.ljust(SHORTEST_NAME, "_")
