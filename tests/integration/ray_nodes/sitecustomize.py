"""Python runs this first in every process of a node of the tests' Ray cluster: epochs are slept.

While the file exists that `GATE_VARIABLE` names, all epochs of a trial but its first one wait.
"""

import os
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

TRAINS = "canopy_search.search.trial.stage_tree"
GATE_VARIABLE = "RAY_NODES_GATE"


class _SleepingLoader(Loader):
    """Imports the module that trains, and lets it sleep instead.

    Args:
        loader: of the module.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        from tests.faults.sleeping_run import SleepingRun

        class HeldRun(SleepingRun):
            def train_epoch(self, *arguments: object) -> object:
                while self.epoch and Path(os.environ[GATE_VARIABLE]).exists():
                    time.sleep(0.05)
                return super().train_epoch(*arguments)

        self._loader.exec_module(module)
        module.TrainingRun = HeldRun


class _Finder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != TRAINS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _SleepingLoader(spec.loader)
        return spec


if GATE_VARIABLE in os.environ:
    sys.meta_path.insert(0, _Finder())
