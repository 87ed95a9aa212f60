"""The tree's blocks against what the trials share."""

from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.stage_tree import sentence, stage_tree, stage_tree_charts
from canopy_search.dashboards.study.model import StudyData
from tests.dashboards.studies import PRUNED, Epochs, data, searched, setting, trial

SHARED = [
    trial(0, [0.1, 0.2, 0.3], params=setting(gamma=0.9)),
    trial(1, [0.1, 0.25], PRUNED, setting(gamma=0.8), epochs=Epochs(trained=[2])),
    trial(2, [0.1, 0.2, 0.3], epochs=Epochs(trained=[]), params=setting(gamma=0.9)),
    trial(3, [0.2], PRUNED, setting("resnet18")),
]


def tree(study: StudyData):
    return stage_tree(study)


def test_blocks_are_as_high_as_the_trials_they_belong_to() -> None:
    found = tree(data(SHARED))
    assert [t.number for t in found.rows] == [1, 0, 2, 3]
    blocks = [(b.epoch, b.first_row, [t.number for t in b.trials]) for b in found.blocks]
    assert blocks == [
        (1, 0, [1, 0, 2]),
        (1, 3, [3]),
        (2, 0, [1]),
        (2, 1, [0, 2]),
        (3, 1, [0, 2]),
    ]


def test_what_was_saved_is_what_was_not_trained(words: SnapshotAssertion) -> None:
    found = tree(data(SHARED))
    assert (found.reported, found.trained, found.saved_s) == (9, 5, 40.0)
    says = sentence(data(SHARED), found)
    for number in ("9 reported", "5 were", "4 (44 %)", "40 s", "3 trials of tinycnn_8 · bce"):
        assert number in says
    assert says == words


def test_every_reported_epoch_lies_in_one_block() -> None:
    study = searched(60)
    found = tree(study)
    cells = {
        (block.epoch, row)
        for block in found.blocks
        for row in range(block.first_row, block.first_row + len(block.trials))
    }
    assert len(cells) == sum(len(b.trials) for b in found.blocks) == found.reported
    assert {(e, row) for row, t in enumerate(found.rows) for e, _ in t.curve} == cells
    for block in found.blocks:
        at = [t.stages[block.epoch - 1].stage for t in block.trials]
        assert len(set(at)) == 1
        assert list(block.trials) == found.rows[block.first_row :][: len(block.trials)]


def test_an_epoch_from_another_study_is_hatched(words: SnapshotAssertion) -> None:
    study = data([trial(0, [0.1, 0.2], epochs=Epochs(trained=[2]))])
    assert [block.was_trained for block in tree(study).blocks] == [False, True]
    assert sentence(study, tree(study)) == words
    (chart,) = stage_tree_charts(study)
    assert list(chart.figures[0].data[0].marker.pattern.shape) == ["/", ""]


def test_nothing_shared_is_said(words: SnapshotAssertion) -> None:
    study = data([trial(0, [0.1, 0.2])])
    assert "2 epochs" in sentence(study, tree(study))
    assert sentence(study, tree(study)) == words


def test_a_study_without_stages_has_no_tree() -> None:
    assert stage_tree_charts(data([])) == []
    assert stage_tree_charts(data([trial(0)])) == []
