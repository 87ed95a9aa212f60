import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.configuration import load_config
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workflows.train import (
    ModelFile,
    TrainingResult,
    print_result,
    train_in_full,
    train_on_screen,
)
from canopy_search.storage.workspace import Workspace
from canopy_search.training.network.model_file import load_model
from canopy_search.training.settings import DataSettings, TrainingSettings
from tests.planet_data import LABEL_RATES, write_planet_data
from tests.search.trial.tree_worker import (
    Hire,
    straight,
    straight_run,
    tiny_settings,
)
from tests.short_memory import ShortMemory

CONFIG = """
data:
  labels: train_classes.csv
  images: train-jpg
  image_px: 16
  split: {{validation: 0.3, test: {test}, seed: 0}}
training: {{backbone: tinycnn_8, epochs: 1, batch_size: 16}}
"""
AT_THRESHOLDS = ("test_f1_at_thresholds", "test_f2_at_thresholds")


def trained_planet(folder: Path, test: float, database_url: str) -> TrainingResult:
    write_planet_data(folder, images=60)
    (folder / "canopy.yaml").write_text(CONFIG.format(test=test))
    configuration = load_config(folder / "canopy.yaml")
    request = StudyRequest(Workspace(folder / "home", database_url), configuration, "planet")
    return train_on_screen(request, ModelFile(folder / "model.pt"), Console(file=io.StringIO()))


def config_of(training: TrainingSettings) -> CanopyConfig:
    return CanopyConfig(data=DataSettings(demo="digits"), training=training)


def printed(result: TrainingResult) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_result(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_thresholds_are_kept_with_the_model_and_scored_on_test(
    tmp_path: Path, database_url: str
) -> None:
    result = trained_planet(tmp_path, 0.3, database_url)

    model = load_model(tmp_path / "model.pt")
    assert {name: len(values) for name, values in model.thresholds.items()} == {
        "f1": len(LABEL_RATES),
        "f2": len(LABEL_RATES),
    }
    document = result.as_json()
    for key in AT_THRESHOLDS:
        assert 0 <= document[key] <= 1
        assert model.metrics[key] == document[key]
        assert f"{document[key]:.4f}".lstrip("0") in printed(result)


def test_without_test_images_there_is_no_score_of_thresholds(
    tmp_path: Path, database_url: str
) -> None:
    result = trained_planet(tmp_path, 0, database_url)

    document = result.as_json()
    assert [document[key] for key in AT_THRESHOLDS] == [None, None]
    assert "thresholds" not in printed(result)
    assert load_model(tmp_path / "model.pt").thresholds.keys() == {"f1", "f2"}


def test_an_interrupted_training_resumes_at_its_last_epoch(
    hire: Hire, trained: list[int], tmp_path: Path
) -> None:
    config = config_of(tiny_settings())

    def interrupt(epoch: int, _done: int, _total: int) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    worker = hire()
    with pytest.raises(KeyboardInterrupt):
        train_in_full(config, worker.tree, ModelFile(tmp_path / "model.pt"), interrupt)
    worker.writer.flush()
    trained.clear()

    result = train_in_full(config, hire().tree, ModelFile(tmp_path / "model.pt"))
    assert trained == [3]
    assert result.validation["val_ap"] == straight(config.training)[-1]["val_ap"]


def test_a_run_of_a_search_is_not_trained_again(
    hire: Hire, trained: list[int], tmp_path: Path
) -> None:
    config = config_of(tiny_settings())
    worker = hire()
    [*_, last] = worker.run_path(config.training)
    worker.writer.flush()
    trained.clear()

    result = train_in_full(config, hire().tree, ModelFile(tmp_path / "model.pt"))
    assert trained == []
    assert result.validation["val_ap"] == last.metrics["val_ap"]


def test_batches_are_split_as_in_the_search_with_its_stages_or_without(
    hire: Hire, trained: list[int], memory: ShortMemory, tmp_path: Path
) -> None:
    settings = tiny_settings(accumulation=[[1, 2]])
    memory.training_images = 4
    result = train_in_full(config_of(settings), hire().tree, ModelFile(tmp_path / "model.pt"))
    assert memory.shortages == 0
    assert load_model(tmp_path / "model.pt").settings["training"]["accumulation"] == [[1, 2]]
    memory.training_images = None
    expected = straight_run(settings, [2] * settings.epochs)[1]
    assert result.validation["val_ap"] == expected[-1]["val_ap"]


def test_memory_that_runs_out_splits_the_batches_and_the_model_says_so(
    hire: Hire, memory: ShortMemory, tmp_path: Path
) -> None:
    memory.training_images = 4
    train_in_full(config_of(tiny_settings()), hire().tree, ModelFile(tmp_path / "model.pt"))
    assert memory.shortages == 1
    assert load_model(tmp_path / "model.pt").settings["training"]["accumulation"] == [[1, 2]]


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_best_epoch_can_be_kept_instead_of_the_last(
    hire: Hire, tmp_path: Path, *, is_lost: bool
) -> None:
    settings = tiny_settings(epochs=5, optimizer={"name": "sgd", "lr": 1.0})
    aps = [metrics["val_ap"] for metrics in straight(settings)]
    best = 1 + aps.index(max(aps))
    assert best < 5
    worker = hire()
    path = worker.tree.plan(settings)
    worker.go(path)
    worker.writer.flush()
    if is_lost:
        worker.writer.discard(path.keys)

    file = ModelFile(tmp_path / "model.pt", keep="best")
    result = train_in_full(config_of(settings), worker.tree, file)

    expected, _ = straight_run(settings, [1] * best)
    model = load_model(file.path)
    assert (result.epoch, result.validation["val_ap"]) == (best, max(aps))
    assert (model.metrics["epoch"], model.metrics["keep"]) == (best, "best")
    assert_same_weights(model.network.state_dict(), expected.model.state_dict())
    assert f"model of epoch {best} of 5: " in printed(result)


def test_the_first_of_equal_epochs_is_the_best() -> None:
    epochs = [{"val_ap": ap} for ap in (0.1, 0.3, 0.3, 0.2)]
    assert ModelFile(Path("model.pt"), keep="best").epoch(epochs) == 2
    assert ModelFile(Path("model.pt")).epoch(epochs) == 4


def test_averaged_weights_are_kept_with_those_that_they_are_the_average_of(
    hire: Hire, tmp_path: Path
) -> None:
    settings = tiny_settings(ema=0.9)
    result = train_in_full(config_of(settings), hire().tree, ModelFile(tmp_path / "model.pt"))

    expected, metrics = straight_run(settings, [1] * settings.epochs)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert_same_weights(content["weights"], expected.evaluated.state_dict())
    assert_same_weights(content["weights_not_averaged"], expected.model.state_dict())
    assert result.validation["val_ap"] == metrics[-1]["val_ap"]


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
