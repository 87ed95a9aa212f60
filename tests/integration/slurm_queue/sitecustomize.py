"""Python runs this first in every process of a test's jobs, where epochs are slept.

The variables are a user's of `tests.integration.test_slurm_queue`:

- while the file exists that `GATE_VARIABLE` names, all epochs of a trial but its first one wait;
- `FAR_VARIABLE` lets the tests' database pass for one that other machines reach.
"""

import os
import sys
import time
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

GATE_VARIABLE = "SLURM_JOBS_GATE"
FAR_VARIABLE = "SLURM_JOBS_FAR"


def _sleep(module: Any) -> None:
    from tests.faults.sleeping_run import SleepingRun

    class HeldRun(SleepingRun):
        def train_epoch(self, *arguments: object) -> object:
            while self.epoch and Path(os.environ[GATE_VARIABLE]).exists():
                time.sleep(0.05)
            return super().train_epoch(*arguments)

    module.TrainingRun = HeldRun


def _pass_for_far(module: Any) -> None:
    module.is_on_this_machine = lambda url: False


_CHANGES: dict[str, tuple[str, Callable[[Any], None]]] = {
    "canopy_search.search.trial.stage_tree": (GATE_VARIABLE, _sleep),
    "canopy_search.search.workers.slurm.backend": (FAR_VARIABLE, _pass_for_far),
}


class _ChangingLoader(Loader):
    """Imports a module, and changes it.

    Args:
        loader: of the module.
        change: is given the module.
    """

    def __init__(self, loader: Loader, change: Callable[[Any], None]) -> None:
        self._loader = loader
        self._change = change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


class _Finder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        variable, change = _CHANGES.get(name, ("", None))
        if change is None or variable not in os.environ:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ChangingLoader(spec.loader, change)
        return spec


sys.meta_path.insert(0, _Finder())
