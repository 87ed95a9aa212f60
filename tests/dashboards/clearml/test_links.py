from canopy_search.dashboards.clearml.links import comparison_url, task_url

WEB = "https://app.example"


def test_experiments_became_tasks_with_version_2_31() -> None:
    old, new = (task_url(WEB, version, "p", "t") for version in ("2.30", "2.31"))
    assert old == "https://app.example/projects/p/experiments/t/output/log"
    assert new == "https://app.example/projects/p/tasks/t/output/log"
    assert task_url(WEB, "2.9", "p", "t") == old
    compared = [comparison_url(WEB, version, "p", ["a", "b"]) for version in ("2.30", "3.0")]
    assert compared == [
        "https://app.example/projects/p/compare-experiments;ids=a,b/scalars/graph",
        "https://app.example/projects/p/compare-tasks;ids=a,b/scalars/graph",
    ]


def test_no_link_leads_nowhere() -> None:
    assert task_url(None, "2.31", "p", "t") is None
    assert comparison_url(None, "2.31", "p", ["a"]) is None
    assert comparison_url(WEB, "2.31", "p", []) is None
    assert task_url(WEB, "2.31", None, "t") == f"{WEB}/projects/*/tasks/t/output/log"
