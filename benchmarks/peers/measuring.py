"""Runs a peer in a process and folder of its own, and watches its memory."""

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.machine import machine_text
from benchmarks.peers.record import EpochEntry, read_record
from benchmarks.peers.roster import Peer, environment_of_peers
from benchmarks.peers.summary import Costs, SearchRun, overhead_s, summarize
from benchmarks.peers.task import SHAPES, TRIALS, Lookup
from canopy_search.filestore.atomic import write_atomically
from canopy_search.search.study.configuration import load_config

_SAMPLE_S = 2.0
_MIB = 2**20


@dataclass(frozen=True)
class RealRun:
    """A search that was really run.

    Attributes:
        peer: who.
        own_loop: whether it trained by its own loop, as it is shipped, or by Canopy's.
        entries: its epochs.
        peak_mib: largest sum of the proportional sizes (PSS) of its processes: a page that several
            share counts once. The database server is not among them.
        machine: when and on what it ran.
    """

    peer: Peer
    own_loop: bool
    entries: list[EpochEntry]
    peak_mib: float
    machine: str

    @property
    def run(self) -> SearchRun:
        """Its summary."""
        return summarize(self.entries, load_config(SHAPES).settings.training.epochs)

    @property
    def start_s(self) -> float:
        """Seconds from the command to the first trial."""
        return min(entry.at_s - entry.train_s for entry in self.entries if entry.trained)

    @property
    def trial_s(self) -> float:
        """Seconds of a worker outside of epochs, for each trial."""
        return overhead_s(self.run, self.peer.workers, self.start_s)

    def costs(self, lookup: Lookup) -> Costs:
        """Returns how it is slower than the table of learning curves."""
        trained = [entry for entry in self.entries if entry.trained]
        table_s = sum(lookup.curve(entry.params)[entry.epoch - 1].seconds for entry in trained)
        return Costs(
            epoch_factor=self.run.trained_s / table_s,
            trial_s=max(0.0, self.trial_s),
            start_s=self.start_s,
            peak_mib=self.peak_mib,
        )


def simulate_peer(peer: Peer, folder: Path, curves: str, seeds: Sequence[int]) -> Path:
    """Runs a peer on looked-up epochs; returns its record.

    Args:
        peer: who.
        folder: for records and logs.
        curves: see `task.curves_of`.
        seeds: a search for each.
    """
    record = folder.resolve() / f"simulated-{Path(curves).stem}-{peer.key}.jsonl"
    record.unlink(missing_ok=True)
    options = ["--record", str(record), "--curves", curves, "--trials", str(TRIALS)]
    _run(peer.command(*options, "--seeds", *map(str, seeds)), record.with_suffix(".log"), {})
    return record


@dataclass(frozen=True)
class RealPlace:
    """Where peers run for real.

    Attributes:
        folder: for records and logs.
        data: folder of images and labels.csv.
        database_url: for plain Optuna.
        trials: of each search.
    """

    folder: Path
    data: Path
    database_url: str
    trials: int


def train_peer(peer: Peer, place: RealPlace, *, own_loop: bool) -> RealRun:
    """Runs a peer for real, or reads what it did if its record has been completed before."""
    loop = "own" if own_loop else "canopys"
    record = place.folder.resolve() / f"real-{peer.key}-{loop}-{place.trials}.jsonl"
    completed = record.with_suffix(".json")
    if not completed.exists():
        record.unlink(missing_ok=True)
        machine = machine_text()
        options = ["--record", str(record), "--data", str(place.data.resolve())]
        options += ["--trials", str(place.trials), "--began", f"{time.time():.3f}"]
        options += [] if own_loop else ["--canopys-loop"]
        variables = {"PEERS_DATABASE_URL": place.database_url}
        peak_mib = _run(peer.command(*options), record.with_suffix(".log"), variables)
        document = {"machine": machine, "peak_mib": peak_mib}
        write_atomically(completed, json.dumps(document).encode())
    return RealRun(peer, own_loop, read_record(record), **json.loads(completed.read_text()))


def _run(command: list[str], log: Path, variables: dict[str, str]) -> float:
    """Runs a command; returns the largest size of it and its children in memory, in MiB."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,  # some leave files where they are
            env={**environment_of_peers(), **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        peak = [0.0]
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, ended))
        watcher.start()
        status = process.wait()
        ended.set()
        watcher.join()
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {status}; its output is in {log}")
    return peak[0]


def _watch(pid: int, peak: list[float], ended: threading.Event) -> None:
    while not ended.wait(_SAMPLE_S):
        try:
            root = psutil.Process(pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        peak[0] = max(peak[0], sum(map(_held, processes)) / _MIB)


def _held(process: psutil.Process) -> int:
    try:
        # Canopy's own server; plain Optuna's is not below its process either.
        if process.name().startswith("postgres"):
            return 0
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
