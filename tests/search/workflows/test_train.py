import io
from pathlib import Path

from rich.console import Console

from canopy_search.search.study.configuration import load_config
from canopy_search.search.workflows.train import TrainingResult, print_result, train_in_full
from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.network.model_file import load_model
from tests.planet_data import LABEL_RATES, write_planet_data

CONFIG = """
data:
  labels: train_classes.csv
  images: train-jpg
  image_px: 16
  split: {{validation: 0.3, test: {test}, seed: 0}}
training: {{backbone: tinycnn_8, epochs: 1, batch_size: 16}}
"""
AT_THRESHOLDS = ("test_f1_at_thresholds", "test_f2_at_thresholds")


def trained(folder: Path, test: float) -> TrainingResult:
    write_planet_data(folder, images=60)
    (folder / "canopy.yaml").write_text(CONFIG.format(test=test))
    config = load_config(folder / "canopy.yaml").settings
    return train_in_full(config, open_dataset(config.data, folder / "home"), folder / "model.pt")


def printed(result: TrainingResult) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_result(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_thresholds_are_kept_with_the_model_and_scored_on_test(tmp_path: Path) -> None:
    result = trained(tmp_path, test=0.3)

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


def test_without_test_images_there_is_no_score_of_thresholds(tmp_path: Path) -> None:
    result = trained(tmp_path, test=0)

    document = result.as_json()
    assert [document[key] for key in AT_THRESHOLDS] == [None, None]
    assert "thresholds" not in printed(result)
    assert load_model(tmp_path / "model.pt").thresholds.keys() == {"f1", "f2"}
