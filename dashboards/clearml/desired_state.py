"""The desired state of a task in ClearML: plain values, comparable with what was sent."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.study.model import TrialData

CREATED, RUNNING = "created", "in_progress"
COMPLETED, STOPPED, FAILED = "completed", "stopped", "failed"
FINAL = (COMPLETED, STOPPED, FAILED)

OBJECTIVE = "AP/val"
SHORTEST_NAME = 3
_LONGEST_LINE = 1000

BEST_TAG = "best"
PASSING_TAGS = frozenset(
    f"{BEST_TAG} waiting running paused interrupted complete pruned failed".split()
)
"""Tags that a trial can lose again; all others are permanent."""

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
        series: name of the curve in the graph.
        step: the epoch, or the number of finished trials.
        value: a finite number.
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
        """Unique among the figures of a task."""
        return f"{self.group}/{self.series}"


@dataclass(frozen=True)
class LogLine:
    """One line of a console log.

    Attributes:
        at_ms: when it was logged, in milliseconds since 1970.
        text: the message.
        level: ``info`` or ``error``.
    """

    at_ms: int
    text: str
    level: str = "info"


@dataclass(frozen=True)
class DesiredTask:
    """The desired state of a task.

    Attributes:
        number: number of its trial, or `storage.study.mirror_rows.STUDY_TASK`.
        identity: a tag that no other task has.
        name: shown on the page, at least three characters.
        type: ``training`` or ``optimizer``.
        state: its status in ClearML.
        reason: why it has this status, if there is a reason.
        comment: shown as its description.
        tags: all of them, including the identity.
        hyperparams: section → name → value.
        configuration: name → (format, text).
        scalars: ordered by step; steps are whole numbers from 1 without gaps.
        plots: all of them.
        lines: all of them; later lines are only appended.
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
        """The last step with scalars; 0 if there are none."""
        return max((scalar.step for scalar in self.scalars), default=0)

    @property
    def parts(self) -> dict[str, str]:
        """Digests of the editable parts; the digest of a changed part differs."""
        parts = {
            "name": self.name,
            "comment": self.comment,
            "hyperparams": self.hyperparams,
            "configuration": self.configuration,
        }
        return {name: digest(value) for name, value in parts.items()}


def task_state(trial: TrialData) -> str:
    """Returns the status of a trial's task; a paused trial counts as running."""
    return _STATES.get(trial.state, RUNNING)


def state_word(trial: TrialData) -> str:
    """Returns a trial's state as a tag and a line say it."""
    return "failed" if trial.state == TrialState.FAIL.name else trial.state.lower()


def identity_tag(database_id: str, study_id: int, number: int) -> str:
    """Returns a tag that is unique among all databases, studies and trials."""
    return f"canopy:{digest([database_id, study_id, number])}"


def digest(value: Any) -> str:
    """Returns a short digest of a value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_of(value: Any) -> str:
    """Returns a setting's value as ClearML's table shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, default=str, ensure_ascii=False)


def texts_of(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Returns section → name → value as ClearML's table shows it."""
    return {
        section: {name: text_of(value) for name, value in values.items()}
        for section, values in sections.items()
    }


def json_text(document: Any) -> str:
    """Returns a document as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def one_line(text: str) -> str:
    """Returns a reason as a page can show it: one line, no control characters, not too long."""
    line = " ".join(text.split())
    return "".join(char for char in line if char.isprintable())[:_LONGEST_LINE]


def milliseconds(instant: datetime | None) -> int:
    """Returns an instant in milliseconds since 1970, 0 if unknown; a naive one is local time."""
    return 0 if instant is None else round(instant.timestamp() * 1000)


def is_number(value: Any) -> bool:
    """Whether a value can be a point of a curve."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def long_enough(name: str) -> str:
    """Returns a name padded to the shortest length that the server accepts."""
    return name if len(name) >= SHORTEST_NAME else name.ljust(SHORTEST_NAME, "_")
