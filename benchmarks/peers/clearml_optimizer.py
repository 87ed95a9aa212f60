"""ClearML's HyperParameterOptimizer as far as it goes without a server, in its offline mode.

``python -m benchmarks.peers.clearml_optimizer`` prints how far that is. Its searcher,
`OptimizerOptuna`, is Optuna's own study with TPE; each trial is a clone of a task on the server,
which an agent or a process of its own then runs, so that without a server none begins.

References:
    https://clear.ml/docs/latest/docs/references/sdk/hpo_optimization_hyperparameteroptimizer
    https://clear.ml/docs/latest/docs/guides/set_offline
"""

import os
import tempfile
import threading
import traceback
from typing import Any

import clearml
from clearml import Task
from clearml.automation import (
    DiscreteParameterRange,
    HyperParameterOptimizer,
    UniformParameterRange,
)
from clearml.automation.optuna import OptimizerOptuna

from benchmarks.peers.task import SHAPES, TRIALS
from canopy_search.search.study.configuration import load_config

WAIT_S = 30


def main() -> None:
    """Tries, and prints what happened at each step."""
    print(f"clearml {clearml.__version__}, offline")
    config = load_config(SHAPES).settings
    searched: dict[str, Any] = dict(config.search.space)
    gamma = searched["gamma"]
    died: list[str] = []
    threading.excepthook = lambda args: died.append(_reason(args.exc_value))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLEARML_CACHE_DIR"] = folder
        Task.set_offline(offline_mode=True)
        task: Task = Task.init(
            "peers", "optimizer", Task.TaskTypes.optimizer, auto_resource_monitoring=False
        )
        print(f"made the optimizer's task {task.id}")
        optimizer = HyperParameterOptimizer(
            base_task_id=task.id,
            hyper_parameters=[
                DiscreteParameterRange("General/backbone", searched["backbone"]),
                DiscreteParameterRange("General/loss", searched["loss"]),
                UniformParameterRange("General/gamma", gamma.low, gamma.high, gamma.step),
            ],
            objective_metric_title="AP",
            objective_metric_series="validation",
            objective_metric_sign="max",
            max_number_of_concurrent_tasks=1,
            optimizer_class=OptimizerOptuna,
            total_max_jobs=TRIALS,
            max_iteration_per_job=config.training.epochs,
        )
        print("made the optimizer")
        started = optimizer.start_locally()
        print(f"started it: {started}")
        optimizer.wait(timeout=WAIT_S / 60)
        for reason in died:
            print(f"a thread of it ended with {reason}")
        try:
            print(f"best trials: {optimizer.get_top_experiments(top_k=1)}")
        except AttributeError as error:
            print(f"best trials: {_reason(error)}")
        optimizer.stop()
        task.close()


def _reason(error: BaseException | None) -> str:
    """Returns an error and the place in ClearML where it came from."""
    frame = traceback.extract_tb(error.__traceback__)[-1] if error else None
    place = f", in {frame.name} ({frame.line})" if frame else ""
    return f"{type(error).__name__}: {error}{place}"


if __name__ == "__main__":
    main()
