"""Python runs this first in every process of the tests' jobs: epochs are slept, and limits short.

What a job does with its time begins when its workers do: a start takes long on a busy machine.
"""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import tests.integration.ray_nodes.sitecustomize  # noqa: F401 - slept epochs

JOB = "search.placement.job"
WORK_VARIABLE = "SLURM_NODES_WORK_S"


class _HastyLoader(Loader):
    """Imports the module of jobs, and gives each so many seconds.

    Args:
        loader: of the module.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        work_s, margin_s = float(os.environ[WORK_VARIABLE]), module.margin_s
        module.left_s = lambda limit_s: work_s + margin_s(limit_s)  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name != JOB:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _HastyLoader(spec.loader)
        return spec


if WORK_VARIABLE in os.environ:
    sys.meta_path.insert(0, _Finder())
