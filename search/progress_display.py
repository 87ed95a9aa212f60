"""Progress display of a search: a live screen on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState
from rich.console import Console
from rich.live import Live
from rich.text import Text

from canopy_search.dashboards.formatting.values import ap_text, duration_text, params_text
from canopy_search.search.events import SharedPrefix, TrialEnd

STATE_WORDS = {
    TrialState.COMPLETE: ("complete", "green"),
    TrialState.PRUNED: ("pruned", "yellow"),
    TrialState.FAIL: ("failed", "red"),
    TrialState.RUNNING: ("paused", "cyan"),
}
REFRESH_PER_S = 4
PROGRESS_EVERY_S = 15
EPOCH_LINE_AFTER_S = 60
SAME_NOTE_AFTER_S = 60
PLAIN_WIDTH = 160


def open_screen(console: Console) -> "SearchScreen":
    """Returns a live screen on a terminal, and plain lines in a pipe or with ``CI`` set."""
    return LiveScreen(console) if is_live(console) else LineScreen(console)


def open_console(*, stderr: bool = False) -> Console:
    """Returns the console of a command: wide and plain in a pipe or with ``CI`` set."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty() and not os.environ.get("CI"):
        return Console(stderr=stderr)
    return Console(stderr=stderr, force_terminal=False, color_system=None, width=PLAIN_WIDTH)


def is_live(console: Console) -> bool:
    """Whether the console is a terminal that can redraw lines."""
    return console.is_terminal and not console.is_dumb_terminal


def ap_comparison_text(val_ap: float, best_of_others: float | None) -> str:
    """Returns an AP, and the best of the other trials at this epoch if there is one."""
    best_text = (
        f" (best at this epoch {ap_text(best_of_others)})" if best_of_others is not None else ""
    )
    return f"AP {ap_text(val_ap)}{best_text}"


def shared_prefix_text(shared_prefix: SharedPrefix) -> str:
    """Returns ``from epoch 3 of trial 12``."""
    source = (
        "an earlier study"
        if shared_prefix.trial_number is None
        else f"trial {shared_prefix.trial_number}"
    )
    return f"from epoch {shared_prefix.epoch} of {source}" + (
        f" of {shared_prefix.study}" if shared_prefix.study else ""
    )


@dataclass
class _Running:
    """What a worker is doing, as text."""

    number: int = -1
    params: Mapping[str, Any] = field(default_factory=dict)
    trial: str = ""
    epoch: str = ""
    latest_ap: str = ""


class LineScreen:
    """One plain line per event, without control characters; `LiveScreen` prints them too."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.study = ""
        self.settled = 0
        self.n_trials = 0
        self.best: float | None = None
        self.workers: dict[str, _Running] = {}
        self._worker_id = ""
        self._notes: dict[str, tuple[str, float]] = {}
        self._paused: set[int] = set()
        self._progress_s = time.monotonic()
        self._printed_s = time.monotonic()
        self._pace = Pace()

    def emit(self, worker: str, event: str, *arguments: Any) -> None:
        """Shows an event of one of several workers.

        Args:
            worker: name of the worker.
            event: name of a method of `SearchWatcher`.
            arguments: arguments of the method.
        """
        self._worker_id = worker
        try:
            getattr(self, event)(*arguments)
        finally:
            self._worker_id = ""

    def worker_gone(self, worker: str) -> None:
        """A worker's process ended."""
        self.workers.pop(worker, None)

    def note(self, text: str) -> None:
        """Prints `text`, unless another worker has just printed the same."""
        now_s = time.monotonic()
        worker_id, printed_s = self._notes.get(text, (self._worker_id, now_s))
        if worker_id != self._worker_id and now_s - printed_s < SAME_NOTE_AFTER_S:
            return
        self._notes[text] = self._worker_id, now_s
        prefix = f"{self._worker_id}: " if self._worker_id and len(self.workers) > 1 else ""
        self._print(prefix + text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Prints a preparation when it is done, and every 15 s while it runs."""
        now_s = time.monotonic()
        if done >= total or now_s - self._progress_s > PROGRESS_EVERY_S:
            self._progress_s = now_s
            prefix = f"{self._worker_id}: " if self._worker_id else ""
            self._print(f"{prefix}{what}: {done:,} of {total:,}")

    def search_started(self, study: str, finished: int, n_trials: int, best: float | None) -> None:
        """Prints the progress of the study."""
        self.study, self.settled, self.n_trials, self.best = study, finished, n_trials, best
        self._pace.start()
        if finished < n_trials:
            so_far = f", best AP {ap_text(best)}" if best is not None else ""
            self._print(f"study {study}: {finished} of {n_trials} trials finished{so_far}")

    def trial_started(
        self,
        number: int,
        params: Mapping[str, Any],
        from_epoch: int,
        shared_prefix: SharedPrefix | None = None,
    ) -> None:
        """Remembers the trial; prints a line if it resumes after a stop."""
        trial = f"trial {number}  {params_text(params)}"
        if shared_prefix is not None:
            trial += f"  {shared_prefix_text(shared_prefix)}"
        self.workers[self._worker_id] = _Running(number, params, trial)
        if from_epoch and number not in self._paused:
            self._print(f"trial {number} resumes after epoch {from_epoch}")

    def batch_done(self, epoch: int, done: int, total: int) -> None:
        """Remembers the progress of the epoch, without a line for it."""
        running = self._running()
        running.epoch = f"epoch {epoch} {100 * done // total:>3} %" + running.latest_ap

    def epoch_done(
        self, epoch: int, epochs: int, val_ap: float, best_of_others: float | None
    ) -> None:
        """Prints a line if the last one is a minute old, so that a log does not look stuck."""
        running, comparison = self._running(), ap_comparison_text(val_ap, best_of_others)
        running.latest_ap = f" · after epoch {epoch} of {epochs} {comparison}"
        if time.monotonic() - self._printed_s > EPOCH_LINE_AFTER_S:
            prefix = f"trial {running.number} " if self._worker_id else ""
            self._print(f"  {prefix}epoch {epoch} of {epochs}  {comparison}")

    def trial_ended(self, end: TrialEnd, settled: int, best: float | None) -> None:
        """Prints the trial's line."""
        is_best = end.state == TrialState.COMPLETE and end.val_ap == best != self.best
        # Events of different workers may arrive out of order.
        self.settled = max(self.settled, settled)
        self.best = max((ap for ap in (best, self.best) if ap is not None), default=None)
        self._pace.trial_ended()
        if end.state == TrialState.RUNNING:
            self._paused.add(end.number)
        self._print(self._trial_line(end, is_best=is_best))
        self.workers[self._worker_id] = _Running()

    def close(self) -> None:
        """Does nothing: lines stay as printed."""

    def _running(self) -> _Running:
        return self.workers.setdefault(self._worker_id, _Running())

    def _trial_line(self, end: TrialEnd, *, is_best: bool) -> Text:
        word, colour = STATE_WORDS[end.state]
        width = len(str(self.n_trials))
        line = Text(f"[{self.settled:>{width}}/{self.n_trials}] trial {end.number:>{width}} ")
        line.append(f"{word:<8}", style=colour)
        new = f"{end.trained:>2} new" if end.trained != end.epochs else ""
        word = "epoch " if end.epochs == 1 else "epochs"
        line.append(f" AP {ap_text(end.val_ap):>5}  {end.epochs:>2} {word} {new:<6} ")
        params = params_text(self._running().params)
        line.append(f"{duration_text(end.seconds):>11}  {params}")
        if end.shared_prefix is not None:
            line.append(f"  {shared_prefix_text(end.shared_prefix)}", style="dim")
        if is_best:
            line.append("  best so far", style="bold green")
        if end.reason and end.state == TrialState.FAIL:
            line.append(f"  {end.reason}", style="red")
        return line

    def _print(self, line: str | Text) -> None:
        self._printed_s = time.monotonic()
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)


class LiveScreen(LineScreen):
    """The plain lines, and below them one line for the search and one for each running trial."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._preparing = ""
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )
        self._live.start()

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows a bar while a preparation runs."""
        filled = 24 * done // total if total else 24
        bar = "━" * filled + "╌" * (24 - filled)
        line = "" if done >= total else f"{what} {bar} {done:,} of {total:,}"
        if self._worker_id:  # one of several workers; others may already be training
            self._running().trial = line
        else:
            self._preparing = line

    def close(self) -> None:
        """Removes the live lines and releases the terminal."""
        self._live.stop()

    def lines(self) -> str:
        """Returns the lines currently shown."""
        return self._render().plain

    def _render(self) -> Text:
        if self._preparing:
            return Text(self._preparing, no_wrap=True, overflow="ellipsis")
        if not self.study:
            return Text("preparing")
        filled = min(24, 24 * self.settled // self.n_trials)
        parts = [
            f"{self.study}  {'━' * filled}{'╌' * (24 - filled)}  {self.settled} of {self.n_trials}",
            f"best AP {ap_text(self.best)}",
            self._left_text(),
        ]
        lines = Text(" · ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")
        for name, running in sorted(self.workers.items()):
            prefix = f"{name}  " if len(self.workers) > 1 else ""
            lines.append(f"\n{prefix}{running.trial}  {running.epoch}", style="not bold")
        return lines

    def _left_text(self) -> str:
        if self.settled >= self.n_trials:
            return "the best paused trials resume"
        left = self._pace.seconds_left(self.n_trials - self.settled)
        return f"about {duration_text(left)} left" if left is not None else "time left unknown yet"


SearchScreen = LineScreen
"""The display of a search, for one worker or several."""


class Pace:
    """Time left, estimated from the mean time of the trials finished in this process."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._trials = 0

    def start(self) -> None:
        """Starts the clock before the first trial."""
        self._started_s = time.monotonic()

    def trial_ended(self) -> None:
        """Counts one more finished trial."""
        self._trials += 1

    def seconds_left(self, trials: int) -> float | None:
        """Returns the time for `trials` more trials, or None before the first has ended."""
        if not self._trials:
            return None
        return trials * (time.monotonic() - self._started_s) / self._trials
