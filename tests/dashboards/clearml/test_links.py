from dataclasses import replace

from canopy_search.dashboards.clearml.links import Pages
from canopy_search.storage.study.mirror_rows import MirroredTask, MirrorState

STATE = MirrorState("server", "p", "https://app.example", "2.31")
ROWS = {0: MirroredTask(0, "a"), 1: MirroredTask(1, "b"), 2: MirroredTask(2)}


def pages(**changes: str | None) -> Pages:
    return Pages.of(replace(STATE, **changes), ROWS)


def test_experiments_became_tasks_with_version_2_31() -> None:
    found = [(p.task(0), p.comparison([0, 1, 2])) for p in map(by_version, ("2.9", "2.30", "3.0"))]
    old = (
        "https://app.example/projects/p/experiments/a/output/log",
        "https://app.example/projects/p/compare-experiments;ids=a,b/scalars/graph",
    )
    new = (
        "https://app.example/projects/p/tasks/a/output/log",
        "https://app.example/projects/p/compare-tasks;ids=a,b/scalars/graph",
    )
    assert found == [old, old, new]


def by_version(version: str) -> Pages:
    return pages(api_version=version)


def test_no_link_leads_nowhere() -> None:
    assert pages(web=None).task(0) is None
    assert pages(web=None).comparison([0, 1]) is None
    assert pages().task(2) is None
    assert pages().comparison([0, 2]) is None
    assert Pages().task(0) is None
    assert pages(project=None).task(1, "metrics/scalar") == (
        "https://app.example/projects/*/tasks/b/output/metrics/scalar"
    )
