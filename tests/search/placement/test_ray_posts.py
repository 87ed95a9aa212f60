"""Which posts the nodes of a cluster have; nothing here needs Ray."""

from collections import Counter
from typing import Any

import pytest

from canopy_search.search.placement.ray_posts import Node, RayPost, RayPosts, living_nodes


def node(name: str, cpus: float = 2, gpus: float = 0, *, key: str | None = None) -> Node:
    return Node(key or f"id-of-{name}", "192.0.2.1", name, cpus, gpus)


def places(posts: list[RayPost]) -> dict[str, int]:
    return dict(Counter(post.post.host for post in posts))


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
    ("cpus", "posts", "cpus_each", "threads"),
    [(0, 0, 0, 0), (0.5, 0, 0, 0), (1, 1, 1, 1), (2, 2, 1, 1), (3, 2, 1, 1), (16, 2, 8, 8)],
)
def test_workers_of_a_node_without_gpu_share_its_cpus(
    cpus: float, posts: int, cpus_each: int, threads: int
) -> None:
    chosen = RayPosts("auto", 1).choose([node("one", cpus)])
    assert len(chosen) == posts
    assert all(post.cpus == cpus_each and post.threads == threads for post in chosen)
    assert all(post.gpus == 0 and post.post.device == "cpu" for post in chosen)


def test_workers_of_a_gpu_have_a_share_of_it_and_of_the_threads() -> None:
    chosen = RayPosts("auto", 2).choose([node("one", 16, 2)])
    assert [(post.gpus, post.cpus, post.threads) for post in chosen] == [(0.5, 0, 4)] * 4
    assert sum(post.gpus for post in chosen) == 2
    assert len({post.post.key for post in chosen}) == 4


def test_where_there_are_gpus_nodes_without_have_no_post_unless_the_cpu_is_asked_for() -> None:
    nodes = [node("one", 4), node("two", 4, 1)]
    assert places(RayPosts("auto", 1).choose(nodes)) == {"two": 1}
    assert places(RayPosts("cuda", 1).choose(nodes)) == {"two": 1}
    assert places(RayPosts("cpu", 1).choose(nodes)) == {"one": 2, "two": 2}
    assert RayPosts("cuda", 1).choose(nodes[:1]) == []


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
    assert places(RayPosts("auto", 1, most).choose(nodes)) == expected


def test_a_limited_number_is_filled_up_from_other_nodes_and_stays_where_it_is() -> None:
    one, two, three, four = (node(name) for name in ("one", "two", "three", "four"))
    posts = RayPosts("auto", 1, 2)
    before = posts.choose([one, two, three])
    assert places(before) == {"one": 1, "two": 1}
    assert posts.choose([four, three, two, one]) == before
    assert places(posts.choose([one, three, four])) == {"one": 1, "three": 1}
    # The node that comes back takes nothing away.
    assert places(posts.choose([two, one, three, four])) == {"one": 1, "three": 1}


def test_nodes_of_one_machine_have_names_that_differ_and_last() -> None:
    posts = RayPosts("auto", 1)
    first, second, other = node("vm", 1, key="aaaa1111"), node("vm", 1, key="bbbb2222"), node("x")
    assert places(posts.choose([first])) == {"vm": 1}
    assert places(posts.choose([first, second, other])) == {"vm": 1, "vm-2222": 1, "x": 2}
    assert places(posts.choose([second])) == {"vm-2222": 1}
    assert places(RayPosts("auto", 1).choose([first, second])) == {"vm-1111": 1, "vm-2222": 1}
