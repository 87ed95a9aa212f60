"""Progress display of a search: a live screen on a terminal, plain lines elsewhere."""

import time
from dataclasses import dataclass

from optuna.trial import TrialState
from rich.console import Console
from rich.live import Live
from rich.text import Text

from canopy_search.dashboards.formatting.values import (
    ap_text,
    duration_text,
    params_text,
    printable,
)
from canopy_search.search.console import is_live
from canopy_search.search.events import (
    BatchDone,
    EpochDone,
    Event,
    Note,
    Progress,
    SearchStarted,
    SharedPrefix,
    TrialEnded,
    TrialStarted,
    WorkerEnded,
)

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


def open_screen(console: Console) -> "SearchScreen":
    """Returns a live screen on a terminal, and plain lines in a pipe or with ``CI`` set."""
    return LiveScreen(console) if is_live(console) else LineScreen(console)


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
    trial: str = ""
    epoch: str = ""
    latest_ap: str = ""


class LineScreen:
    """One plain line per event, without control characters; `LiveScreen` prints them too."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.search = SearchStarted("", 0, 0, None)
        self.settled = 0
        self.best: float | None = None
        self.workers: dict[str, _Running] = {}
        self._notes: dict[str, tuple[str, float]] = {}
        self._paused: set[int] = set()
        self._progress_s = time.monotonic()
        self._printed_s = time.monotonic()
        self._pace = Pace()

    def emit(self, event: Event) -> None:
        """Shows an event of this process, or of its only worker."""
        self.show("", event)

    def show(self, worker: str, event: Event) -> None:
        """Shows an event of one of several workers.

        Args:
            worker: name of the worker; empty if it does not matter.
            event: the event.
        """
        match event:
            case Note():
                self._note(worker, event.text)
            case Progress():
                self._progress(worker, event)
            case SearchStarted():
                self._search_started(event)
            case TrialStarted():
                self._trial_started(worker, event)
            case BatchDone():
                running = self._running(worker)
                done = 100 * event.done // event.total
                running.epoch = f"epoch {event.epoch} {done:>3} %" + running.latest_ap
            case EpochDone():
                self._epoch_done(worker, event)
            case TrialEnded():
                self._trial_ended(worker, event)
            case WorkerEnded():
                self.workers.pop(worker, None)

    def close(self) -> None:
        """Does nothing: lines stay as printed."""

    def _note(self, worker: str, text: str) -> None:
        """Prints `text`, unless another worker has just printed the same."""
        now_s = time.monotonic()
        known_worker, printed_s = self._notes.get(text, (worker, now_s))
        if known_worker != worker and now_s - printed_s < SAME_NOTE_AFTER_S:
            return
        self._notes[text] = worker, now_s
        self._print((f"{worker}: " if worker and len(self.workers) > 1 else "") + text)

    def _progress(self, worker: str, event: Progress) -> None:
        """Prints a preparation when it is done, and every 15 s while it runs."""
        now_s = time.monotonic()
        if event.done >= event.total or now_s - self._progress_s > PROGRESS_EVERY_S:
            self._progress_s = now_s
            prefix = f"{worker}: " if worker else ""
            self._print(f"{prefix}{event.what}: {event.done:,} of {event.total:,}")

    def _search_started(self, event: SearchStarted) -> None:
        """Prints the progress of the study."""
        self.search, self.settled, self.best = event, event.finished, event.best
        self._pace.start()
        if event.finished < event.n_trials:
            so_far = f", best AP {ap_text(event.best)}" if event.best is not None else ""
            trials = f"{event.finished} of {event.n_trials} trials finished"
            self._print(f"study {event.study}: {trials}{so_far}")

    def _trial_started(self, worker: str, event: TrialStarted) -> None:
        """Remembers the trial; prints a line if it resumes after a stop."""
        trial = f"trial {event.number}  {params_text(event.params)}"
        if event.shared_prefix is not None:
            trial += f"  {shared_prefix_text(event.shared_prefix)}"
        self.workers[worker] = _Running(event.number, trial)
        if event.from_epoch and event.number not in self._paused:
            self._print(f"trial {event.number} resumes after epoch {event.from_epoch}")

    def _epoch_done(self, worker: str, event: EpochDone) -> None:
        """Prints a line if the last one is a minute old, so that a log does not look stuck."""
        running = self._running(worker)
        comparison = ap_comparison_text(event.val_ap, event.best_of_others)
        epoch = f"epoch {event.epoch} of {event.epochs}"
        running.latest_ap = f" · after {epoch} {comparison}"
        if time.monotonic() - self._printed_s > EPOCH_LINE_AFTER_S:
            self._print(f"  {f'trial {running.number} ' if worker else ''}{epoch}  {comparison}")

    def _trial_ended(self, worker: str, event: TrialEnded) -> None:
        """Prints the trial's line."""
        is_best = event.state == TrialState.COMPLETE and event.val_ap == event.best != self.best
        # Events of different workers may arrive out of order.
        self.settled = max(self.settled, event.settled)
        self.best = max((ap for ap in (event.best, self.best) if ap is not None), default=None)
        self._pace.trial_ended()
        if event.state == TrialState.RUNNING:
            self._paused.add(event.number)
        self._print(self._trial_line(event, is_best=is_best))
        if worker in self.workers:
            self.workers[worker] = _Running()

    def _running(self, worker: str) -> _Running:
        return self.workers.setdefault(worker, _Running())

    def _trial_line(self, end: TrialEnded, *, is_best: bool) -> Text:
        word, colour = STATE_WORDS[end.state]
        n_trials = self.search.n_trials
        width = len(str(n_trials))
        line = Text(f"[{self.settled:>{width}}/{n_trials}] trial {end.number:>{width}} ")
        line.append(f"{word:<8}", style=colour)
        new = f"{end.trained:>2} new" if end.trained != end.epochs else ""
        word = "epoch " if end.epochs == 1 else "epochs"
        line.append(f" AP {ap_text(end.val_ap):>5}  {end.epochs:>2} {word} {new:<6} ")
        line.append(f"{duration_text(end.seconds):>11}  {params_text(end.params)}")
        if end.shared_prefix is not None:
            line.append(f"  {shared_prefix_text(end.shared_prefix)}", style="dim")
        if is_best:
            line.append("  best so far", style="bold green")
        if end.reason and end.state == TrialState.FAIL:
            line.append(f"  {end.reason}", style="red")
        return line

    def _print(self, line: str | Text) -> None:
        self._printed_s = time.monotonic()
        text = Text(line) if isinstance(line, str) else line
        text.plain = printable(text.plain)
        self.console.print(text, soft_wrap=True)


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

    def close(self) -> None:
        """Removes the live lines and releases the terminal."""
        self._live.stop()

    def lines(self) -> str:
        """Returns the lines currently shown."""
        return self._render().plain

    def _progress(self, worker: str, event: Progress) -> None:
        """Shows a bar while a preparation runs."""
        counts = f"{event.done:,} of {event.total:,}"
        line = f"{event.what} {_bar(event.done, event.total)} {counts}"
        line = "" if event.done >= event.total else line
        if worker:  # one of several workers; others may already be training
            self._running(worker).trial = line
        else:
            self._preparing = line

    def _render(self) -> Text:
        if self._preparing:
            return Text(printable(self._preparing), no_wrap=True, overflow="ellipsis")
        if not self.search.study:
            return Text("preparing")
        n_trials = self.search.n_trials
        bar = _bar(min(self.settled, n_trials), n_trials)
        parts = [
            f"{self.search.study}  {bar}  {self.settled} of {n_trials}",
            f"best AP {ap_text(self.best)}",
            self._left_text(),
        ]
        lines = Text(printable(" · ".join(parts)), style="bold", no_wrap=True, overflow="ellipsis")
        for name, running in sorted(self.workers.items()):
            prefix = f"{name}  " if len(self.workers) > 1 else ""
            line = printable(f"{prefix}{running.trial}  {running.epoch}")
            lines.append(f"\n{line}", style="not bold")
        return lines

    def _left_text(self) -> str:
        if self.settled >= self.search.n_trials:
            return "the best paused trials resume"
        left = self._pace.seconds_left(self.search.n_trials - self.settled)
        return f"about {duration_text(left)} left" if left is not None else "time left unknown yet"


def _bar(done: int, total: int) -> str:
    filled = 24 * done // total if total else 24
    return "━" * filled + "╌" * (24 - filled)


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
