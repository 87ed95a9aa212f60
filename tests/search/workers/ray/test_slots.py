"""Slots of the nodes of a cluster; these tests do not need Ray."""

from collections import Counter
from typing import Any

import pytest

from canopy_search.search.workers.ray.slots import Node, RaySlot, RaySlots, living_nodes


def node(name: str, cpus: float = 2, gpus: float = 0, *, key: str | None = None) -> Node:
    return Node(key or f"id-of-{name}", "192.0.2.1", name, cpus, gpus)


def slots_per_host(slots: list[RaySlot]) -> dict[str, int]:
    return dict(Counter(slot.slot.host for slot in slots))


def test_what_ray_says_of_nodes_is_read() -> None:
    def said(key: str, name: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
        return {
            "NodeID": key,
            "Alive": alive,
            "NodeManagerAddress": "192.0.2.7",
            "NodeManagerHostname": "rack-7",
            "NodeName": name,
            "Resources": resources,
        }

    nodes = [
        said("a", "192.0.2.7", CPU=8.0, GPU=2.0),
        said("b", "gpu-3", CPU=4.0),
        said("c", "gone", alive=False),
        said("d", "192.0.2.7"),
    ]
    assert living_nodes(nodes) == [
        Node("a", "192.0.2.7", "rack-7", 8.0, 2.0),
        Node("b", "192.0.2.7", "gpu-3", 4.0, 0.0),
        Node("d", "192.0.2.7", "rack-7", 0.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("cpus", "slots", "cpus_each", "threads"),
    [(0, 0, 0, 0), (0.5, 0, 0, 0), (1, 1, 1, 1), (2, 2, 1, 1), (3, 2, 1, 1), (16, 2, 8, 8)],
)
def test_workers_of_a_node_without_gpu_share_its_cpus(
    cpus: float, slots: int, cpus_each: int, threads: int
) -> None:
    chosen = RaySlots("auto", 1).choose([node("one", cpus)])
    assert len(chosen) == slots
    assert all(slot.cpus == cpus_each and slot.threads == threads for slot in chosen)
    assert all(slot.gpus == 0 and slot.slot.device == "cpu" for slot in chosen)


def test_workers_of_a_gpu_have_a_share_of_it_and_of_the_threads() -> None:
    chosen = RaySlots("auto", 2).choose([node("one", 16, 2)])
    assert [(slot.gpus, slot.cpus, slot.threads) for slot in chosen] == [(0.5, 0, 4)] * 4
    assert sum(slot.gpus for slot in chosen) == 2
    assert len({slot.slot.key for slot in chosen}) == 4


def test_where_there_are_gpus_nodes_without_have_no_post_unless_the_cpu_is_asked_for() -> None:
    nodes = [node("one", 4), node("two", 4, 1)]
    assert slots_per_host(RaySlots("auto", 1).choose(nodes)) == {"two": 1}
    assert slots_per_host(RaySlots("cuda", 1).choose(nodes)) == {"two": 1}
    assert slots_per_host(RaySlots("cpu", 1).choose(nodes)) == {"one": 2, "two": 2}
    assert RaySlots("cuda", 1).choose(nodes[:1]) == []


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, {"one": 1}),
        (3, {"one": 1, "two": 1, "three": 1}),
        (4, {"one": 2, "two": 1, "three": 1}),
        (9, {"one": 2, "two": 2, "three": 2}),
    ],
)
def test_a_limited_number_of_workers_is_spread_over_the_nodes(
    most: int, expected: dict[str, int]
) -> None:
    nodes = [node("one"), node("two"), node("three")]
    assert slots_per_host(RaySlots("auto", 1, most).choose(nodes)) == expected


def test_a_limited_number_is_filled_up_from_other_nodes_and_stays_where_it_is() -> None:
    one, two, three, four = (node(name) for name in ("one", "two", "three", "four"))
    slots = RaySlots("auto", 1, 2)
    before = slots.choose([one, two, three])
    assert slots_per_host(before) == {"one": 1, "two": 1}
    assert slots.choose([four, three, two, one]) == before
    assert slots_per_host(slots.choose([one, three, four])) == {"one": 1, "three": 1}
    # The node that comes back takes nothing away.
    assert slots_per_host(slots.choose([two, one, three, four])) == {"one": 1, "three": 1}


def test_nodes_of_one_machine_have_names_that_differ_and_last() -> None:
    slots = RaySlots("auto", 1)
    first, second, other = node("vm", 1, key="aaaa1111"), node("vm", 1, key="bbbb2222"), node("x")
    assert slots_per_host(slots.choose([first])) == {"vm": 1}
    assert slots_per_host(slots.choose([first, second, other])) == {"vm": 1, "vm-2222": 1, "x": 2}
    assert slots_per_host(slots.choose([second])) == {"vm-2222": 1}
    assert slots_per_host(RaySlots("auto", 1).choose([first, second])) == {
        "vm-1111": 1,
        "vm-2222": 1,
    }
