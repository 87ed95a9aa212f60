"""Slots of the nodes of a Ray cluster."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from canopy_search.search.workers.backend import WorkerSlot
from canopy_search.search.workers.device_slots import CPU_WORKERS

SUFFIX = 4
"""Characters of a node's id in its name, if several nodes have the same name."""


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    Attributes:
        id: Ray's id of the node.
        address: its IP address.
        name: name to display; two nodes may have the same.
        cpus: CPUs that Ray can assign there.
        gpus: GPUs that Ray can assign there.
    """

    id: str
    address: str
    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class RaySlot:
    """A slot, and the resources of its node that it takes.

    Attributes:
        slot: the slot as the launcher knows it.
        node: node of the slot.
        cpus: CPUs that it takes.
        gpus: GPUs that it takes; a fraction if several workers share a GPU.
        threads: threads of its worker, unless the configuration sets them.
    """

    slot: WorkerSlot
    node: Node
    cpus: int
    gpus: float
    threads: int


def living_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Returns the nodes that are alive.

    Args:
        nodes: as `ray.nodes` returns them.
    """
    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            _name(node),
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in nodes
        if node["Alive"]
    ]


def _name(node: Mapping[str, Any]) -> str:
    """Returns the name set for the node, else its host name."""
    given = node.get("NodeName")
    if given and given != node["NodeManagerAddress"]:
        return str(given)
    return str(node["NodeManagerHostname"])


@dataclass
class RaySlots:
    """Chooses slots, and keeps the chosen ones while their nodes are alive.

    Args:
        device: `training.device`.
        slots_per_gpu: workers that share a GPU.
        most: maximum number of slots; None for all.
    """

    device: str
    slots_per_gpu: int
    most: int | None = None
    _names: dict[str, str] = field(default_factory=dict)
    _chosen: dict[str, RaySlot] = field(default_factory=dict)

    def choose(self, nodes: Sequence[Node]) -> list[RaySlot]:
        """Returns the slots, with those chosen before first.

        Args:
            nodes: nodes that are alive.
        """
        self._set_names(nodes)
        slots = [slot for node in nodes for slot in self._node_slots(node, nodes)]
        available = {slot.slot.key: slot for slot in slots}
        chosen = {key: available[key] for key in self._chosen if key in available}
        taken = Counter(slot.node.id for slot in chosen.values())
        # Add free slots one by one, always from the node with the fewest chosen slots.
        free = [slot for key, slot in available.items() if key not in chosen]
        most = len(available) if self.most is None else self.most
        while free and len(chosen) < most:
            added = min(free, key=lambda slot: taken[slot.node.id])
            free.remove(added)
            chosen[added.slot.key] = added
            taken[added.node.id] += 1
        self._chosen = chosen
        return list(chosen.values())

    def _node_slots(self, node: Node, nodes: Sequence[Node]) -> list[RaySlot]:
        needs_gpu = self.device.startswith("cuda") or (
            self.device == "auto" and any(other.gpus >= 1 for other in nodes)
        )
        if needs_gpu:
            number = int(node.gpus) * self.slots_per_gpu
            # As Ray does by default, an actor with a GPU reserves no CPU.
            cpus, gpus, device = 0, 1 / self.slots_per_gpu, "cuda"
        else:
            number = min(CPU_WORKERS, int(node.cpus))
            cpus, gpus, device = int(node.cpus) // max(1, number), 0.0, "cpu"
        threads = max(1, int(node.cpus) // max(1, number))
        host = self._names[node.id]
        return [
            RaySlot(WorkerSlot(f"{node.id}:{index}", device, host), node, cpus, gpus, threads)
            for index in range(number)
        ]

    def _set_names(self, nodes: Sequence[Node]) -> None:
        """Gives each node a unique name that does not change later."""
        alive = {node.id for node in nodes}
        self._names = {key: name for key, name in self._names.items() if key in alive}
        counts = Counter(node.name for node in nodes)
        for node in nodes:
            if node.id not in self._names:
                is_unique = counts[node.name] == 1
                name = node.name if is_unique else f"{node.name}-{node.id[-SUFFIX:]}"
                self._names[node.id] = name
