"""Canopy itself, with and without the stage tree, with its default pruner or another.

Training goes through the command, ``canopy search``, from a state folder that holds nothing, so
that the decoded images and the database's start are part of the time; what it did is read with
``canopy export``. Looked-up epochs go through `search.simulation`, as ``canopy simulate`` does.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna

from benchmarks.peers.record import EpochEntry, Recorder, in_order
from benchmarks.peers.task import Lookup, RealSearch, curves_of, peer_arguments
from canopy_search.search.config.settings import NamedSettings, SearchSettings
from canopy_search.search.simulation.replay import SimulatedEpoch, SimulatedPlan, simulate


def simulated(lookup: Lookup, plan: SimulatedPlan, seed: int) -> list[EpochEntry]:
    """Runs one search on looked-up epochs."""
    entries: list[EpochEntry] = []

    def note(each: SimulatedEpoch) -> None:
        val_ap = float("nan") if each.val_ap is None else each.val_ap
        entries.append(
            EpochEntry(seed, each.trial, each.epoch, val_ap, each.at_s, each.train_s, each.params)
        )

    simulate(lookup.curves, plan, seed, on_epoch=note)
    return entries


def trained(search: RealSearch, *, shares: bool) -> list[EpochEntry]:
    """Runs one search for real."""
    from ruamel.yaml import YAML

    yaml = YAML()
    document: dict[str, Any] = yaml.load(search.config)
    document["data"] |= {
        "labels": str(search.data / "labels.csv"),
        "images": str(search.data / "images"),
        "split": {"column": "split"},
    }
    document["search"] |= {"seed": search.seed}
    document["stages"] = {"enabled": shares}
    with tempfile.TemporaryDirectory(prefix="canopy-peer-") as folder:
        home = Path(folder)
        config, exported = home / "canopy.yaml", home / "study.json"
        yaml.dump(document, config)
        environment = {**os.environ, "CANOPY_HOME": str(home / "state")}
        options = ["--config", str(config)]

        def canopy(*command: str) -> None:
            subprocess.run(
                [sys.executable, "-m", "canopy_search", *command, *options],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )

        try:
            canopy("search", "--trials", str(search.trials), "--workers", str(search.workers))
            canopy("export", "--output", str(exported))
        finally:
            subprocess.run(
                [sys.executable, "-m", "canopy_search", "db", "stop"],
                env=environment,
                check=False,
                stdout=subprocess.DEVNULL,
            )
        return _entries(json.loads(exported.read_text()), search.seed, search.began)


def _entries(document: dict[str, Any], seed: int, began: float) -> list[EpochEntry]:
    entries = []
    for trial in document["trials"]:
        for epoch in trial["epochs"]:
            cost_s = 0.0 if epoch["replayed"] else epoch["train_s"] + epoch["val_s"]
            at_s = datetime.fromisoformat(epoch["recorded"]).timestamp() - began
            val_ap = float("nan") if epoch["val_ap"] is None else epoch["val_ap"]
            params = trial["params"]
            entries.append(
                EpochEntry(seed, trial["number"], epoch["epoch"], val_ap, at_s, cost_s, params)
            )
    return in_order(entries)


def main() -> None:
    """Searches and writes the record."""
    parser = peer_arguments(__doc__)
    parser.add_argument("--no-stages", action="store_true", help="without the stage tree")
    parser.add_argument("--pruner", default=SearchSettings().pruner.name, help="to simulate")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recorder = Recorder(arguments.record)
    shares = not arguments.no_stages
    sampler, pruner = SearchSettings().sampler, NamedSettings(name=arguments.pruner)
    plan = SimulatedPlan(sampler, pruner, arguments.trials, arguments.workers, shares)
    for seed in arguments.seeds:
        if arguments.curves is not None:
            entries = simulated(Lookup(curves_of(arguments.curves, seed)), plan, seed)
        else:
            entries = trained(RealSearch.of(arguments, seed), shares=shares)
        for entry in entries:
            recorder.add(entry)


if __name__ == "__main__":
    main()
