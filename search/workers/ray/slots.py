"""Which posts the nodes of a Ray cluster have."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from canopy_search.search.workers.backend import WorkerSlot
from canopy_search.search.workers.device_slots import CPU_WORKERS

SUFFIX = 4
"""So much of a node's id tells it from another one of the same machine."""


@dataclass(frozen=True)
class Node:
    """A node that lives.

    Attributes:
        id: Ray's.
        address: its IP address.
        name: for people; two nodes may have the same.
        cpus: that Ray may give away there.
        gpus: likewise.
    """

    id: str
    address: str
    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class RaySlot:
    """A post, and what of its node it takes.

    Attributes:
        slot: for the launcher.
        node: that it is on.
        cpus: that it takes of the node's.
        gpus: likewise; a share of one where several workers share it.
        threads: of its worker, where the configuration does not say.
    """

    slot: WorkerSlot
    node: Node
    cpus: int
    gpus: float
    threads: int


def living_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Returns the nodes that live.

    Args:
        nodes: as `ray.nodes` returns them.
    """
    return [
        Node(
            each["NodeID"],
            each["NodeManagerAddress"],
            _name(each),
            each["Resources"].get("CPU", 0.0),
            each["Resources"].get("GPU", 0.0),
        )
        for each in nodes
        if each["Alive"]
    ]


def _name(node: Mapping[str, Any]) -> str:
    """Returns the name that the node was given, else its host's."""
    given = node.get("NodeName")
    if given and given != node["NodeManagerAddress"]:
        return str(given)
    return str(node["NodeManagerHostname"])


@dataclass
class RaySlots:
    """Chooses posts, and stays with its choice while their nodes live.

    Args:
        device: `training.device`.
        slots_per_gpu: workers that share a GPU.
        most: posts; None for as many as there are.
    """

    device: str
    slots_per_gpu: int
    most: int | None = None
    _names: dict[str, str] = field(default_factory=dict)
    _chosen: dict[str, RaySlot] = field(default_factory=dict)

    def choose(self, nodes: Sequence[Node]) -> list[RaySlot]:
        """Returns the posts, those of before first.

        Args:
            nodes: that live.
        """
        self._name(nodes)
        there = {slot.slot.key: slot for node in nodes for slot in self._of(node, nodes)}
        chosen = {key: there[key] for key in self._chosen if key in there}
        taken = Counter(slot.node.id for slot in chosen.values())
        # What is left, in turns: the first of each node that has the fewest.
        left = [slot for key, slot in there.items() if key not in chosen]
        most = len(there) if self.most is None else self.most
        while left and len(chosen) < most:
            following = min(left, key=lambda slot: taken[slot.node.id])
            left.remove(following)
            chosen[following.slot.key] = following
            taken[following.node.id] += 1
        self._chosen = chosen
        return list(chosen.values())

    def _of(self, node: Node, nodes: Sequence[Node]) -> list[RaySlot]:
        needs_gpu = self.device.startswith("cuda") or (
            self.device == "auto" and any(each.gpus >= 1 for each in nodes)
        )
        if needs_gpu:
            number = int(node.gpus) * self.slots_per_gpu
            # Ray's own rule for an actor on a GPU: it takes no CPU away.
            cpus, gpus, device = 0, 1 / self.slots_per_gpu, "cuda"
        else:
            number = min(CPU_WORKERS, int(node.cpus))
            cpus, gpus, device = int(node.cpus) // max(1, number), 0.0, "cpu"
        threads = max(1, int(node.cpus) // max(1, number))
        host = self._names[node.id]
        return [
            RaySlot(WorkerSlot(f"{node.id}:{at}", device, host), node, cpus, gpus, threads)
            for at in range(number)
        ]

    def _name(self, nodes: Sequence[Node]) -> None:
        """Gives every node a name of its own, which it keeps."""
        living = {node.id for node in nodes}
        self._names = {key: name for key, name in self._names.items() if key in living}
        often = Counter(node.name for node in nodes)
        for node in nodes:
            if node.id not in self._names:
                is_alone = often[node.name] == 1
                name = node.name if is_alone else f"{node.name}-{node.id[-SUFFIX:]}"
                self._names[node.id] = name
