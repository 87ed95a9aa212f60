"""Runs a peer in a process and folder of its own, and watches its memory."""

import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.peers.record import EpochEntry, read_record
from benchmarks.peers.roster import Peer, environment_of_peers
from benchmarks.peers.summary import Costs, overhead_s, summarize
from benchmarks.peers.task import Curves

_SAMPLE_S = 2.0
_MIB = 2**20


@dataclass(frozen=True)
class RealRun:
    """A search that was really run.

    Attributes:
        peer: who.
        entries: its epochs.
        peak_mib: largest sum of the proportional sizes (PSS) of its processes: a page that several
            share counts once. The database server is not among them.
    """

    peer: Peer
    entries: list[EpochEntry]
    peak_mib: float

    def costs(self, curves: Curves) -> Costs:
        """Returns how it is slower than the table of learning curves."""
        run = summarize(self.entries, curves.space.epochs)
        trained = [entry for entry in self.entries if entry.trained]
        table_s = sum(curves.curve(entry.params)[entry.epoch - 1].seconds for entry in trained)
        start_s = min(entry.at_s - entry.train_s for entry in trained)
        workers = self.peer.workers
        return Costs(
            epoch_factor=run.trained_s / table_s,
            trial_s=max(0.0, overhead_s(run, workers, start_s)),
            start_s=start_s,
            peak_mib=self.peak_mib,
        )


def simulate_peer(peer: Peer, folder: Path, table: Path, trials: int, seeds: list[int]) -> Path:
    """Runs a peer on looked-up epochs; returns its record."""
    record = folder.resolve() / f"simulated-{table.stem}-{peer.key}.jsonl"
    record.unlink(missing_ok=True)
    options = ["--record", str(record), "--table", str(table.resolve()), "--trials", str(trials)]
    _run(peer.command(*options, "--seeds", *map(str, seeds)), folder / f"{record.stem}.log", {})
    return record


def train_peer(peer: Peer, folder: Path, data: Path, trials: int, database_url: str) -> RealRun:
    """Runs a peer for real."""
    record = folder.resolve() / f"real-{peer.key}-0.jsonl"
    record.unlink(missing_ok=True)
    options = ["--record", str(record), "--data", str(data.resolve()), "--trials", str(trials)]
    command = peer.command(*options, "--seeds", "0", "--began", f"{time.time():.3f}")
    peak_mib = _run(command, folder / f"{record.stem}.log", {"PEERS_DATABASE_URL": database_url})
    return RealRun(peer, read_record(record), peak_mib)


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
