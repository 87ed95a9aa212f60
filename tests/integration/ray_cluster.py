"""A Ray cluster of several nodes on this machine, as Ray's own tests make them.

Ray lives in a process of its own: what it starts, prints and warns of is not the tests'.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.faults.searching import wait_until
from tests.integration.ray_nodes.sitecustomize import GATE_VARIABLE

ROOT = Path(__file__).parents[2]
NODES = ROOT / "tests" / "integration" / "ray_nodes"
WORKERS = "ray::CanopyWorker"
"""What Ray calls the process of a worker of ours."""
# Ray finds a node lost after half a minute; a slow one is none.
FAST = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1_000,
    "health_check_timeout_ms": 10_000,
    "health_check_failure_threshold": 3,
}


class RayCluster:
    """A cluster, to be closed, on which every trial waits after its first epoch.

    Args:
        folder: for what it writes.
        nodes: names of the nodes, of one CPU each; the first one is the head.
    """

    def __init__(self, folder: Path, nodes: Sequence[str]) -> None:
        self._gate = folder / "gate"
        self._gate.touch()
        self._log = folder / "cluster.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.ray_cluster"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{NODES}:{ROOT}",
                    GATE_VARIABLE: str(self._gate),
                    "RAY_USAGE_STATS_ENABLED": "0",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.address = ""
        for name in nodes:
            self.address = self.add(name)

    def let_go(self) -> None:
        """Lets all trials go on, which wait after their first epoch before."""
        self._gate.unlink()

    def add(self, name: str, python_path: Path | None = None) -> str:
        """Adds a node and returns the cluster's address.

        Args:
            name: of the node.
            python_path: a folder in which Python looks first there.
        """
        return self._do("add", name, str(python_path or ""))

    def kill(self, name: str) -> None:
        """Kills a node."""
        self._do("kill", name)

    def workers(self) -> list[psutil.Process]:
        """Returns the processes of our workers on all nodes, and theirs below them."""
        found: list[psutil.Process] = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith(WORKERS):
                    found += [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
        return found

    def close(self) -> None:
        """Ends all nodes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _do(self, *words: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(words) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer.startswith("done "), self._log.read_text()
        return answer.removeprefix("done ")


def wait_until_none(processes: Sequence[psutil.Process], what: str) -> None:
    """Waits until all processes are over."""
    wait_until(lambda: not any(map(_is_alive, processes)), what)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _serve() -> None:
    """The process of a cluster: does what it reads, a line each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    nodes = {}
    for line in sys.stdin:
        order, name, *rest = line.rstrip("\n").split("\t")
        if order == "add":
            paths = [path for path in rest if path] + [os.environ["PYTHONPATH"]]
            options = {} if nodes else {"include_dashboard": False, "_system_config": FAST}
            nodes[name] = cluster.add_node(
                num_cpus=1, node_name=name, env_vars={"PYTHONPATH": ":".join(paths)}, **options
            )
        else:
            cluster.remove_node(nodes.pop(name), allow_graceful=False)
        print(f"done {cluster.address}", flush=True)  # noqa: T201
    cluster.shutdown()


if __name__ == "__main__":
    _serve()
