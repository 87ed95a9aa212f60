import copy
from dataclasses import replace

import pytest

from benchmarks import shapes_data
from benchmarks.peers.loops import training_of
from benchmarks.peers.task import SHAPES, RealSearch

PARAMS = {"backbone": "tinycnn_8", "loss": "bce", "gamma": 0.7}


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> RealSearch:
    """A search on a tenth of the shapes."""
    data = tmp_path_factory.mktemp("shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes_data, "SCENES", 200)
        shapes_data.write_shapes(data, jpeg_factor=2)
    return RealSearch(SHAPES, data, seed=0, trials=1, workers=2, began=0.0, own_loop=True)


@pytest.mark.parametrize("own_loop", [True, False])
def test_either_loop_continues_from_a_checkpoint(search: RealSearch, *, own_loop: bool) -> None:
    training = training_of(replace(search, own_loop=own_loop), loader_workers=0)
    started = training.epochs_with_state(PARAMS, None)
    state, first_ap, _ = next(started)
    kept = copy.deepcopy(state)
    later = list(training.epochs_with_state(PARAMS, kept))
    assert [each["epoch"] for each, _, _ in later] == list(range(2, 10))
    assert 0 < first_ap < 1
    if not own_loop:  # a loop of PyTorch's tutorials draws other batches when it is resumed
        assert next(started)[1] == later[0][1]


def test_both_loops_search_the_space_of_the_configuration(search: RealSearch) -> None:
    own, canopys = (
        training_of(replace(search, own_loop=own_loop), loader_workers=0)
        for own_loop in (True, False)
    )
    assert own.space == canopys.space
    assert own.space.training_settings(PARAMS).gamma == PARAMS["gamma"]
