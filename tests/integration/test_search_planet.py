"""The main job on a data set in Planet's layout, through the command."""

import urllib.request

import numpy as np
import optuna
import pytest
import torch

from search.config import load_config
from search.yaml_file import read_yaml, yaml_text
from tests.integration.canopy_command import Canopy
from tests.planet_data import LABEL_RATES, write_planet_data
from training.data.dataset import open_dataset
from training.data.normalise import normalised
from training.metrics import average_precision
from training.model_file import TrainedModel, load_model

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 32, augment: [hflip, vflip, rot90]}
training: {epochs: 3, batch_size: 16, optimizer: {lr: 3e-3}}
search:
  study: planet
  trials: 6
  space:
    backbone: [tinycnn_8, resnet18]
    loss: [bce, weighted_bce, focal_bce]
    gamma: {low: 0.80, high: 1.00, step: 0.05}
  enqueue:
    - {backbone: tinycnn_8, loss: bce, gamma: 1.0}
    - {backbone: tinycnn_8, loss: weighted_bce, gamma: 1.0}
"""


@pytest.fixture(scope="module")
def searched(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Canopy:
    folder = tmp_path_factory.mktemp("planet search")
    write_planet_data(folder)
    (folder / "canopy.yaml").write_text(CONFIG)
    canopy = Canopy(folder, postgres_url)
    output = canopy.run("search", "--config", "canopy.yaml", "--trials", "6").stdout
    (folder / "output.txt").write_text(output)
    return canopy


def test_the_search_ends_with_the_trials_it_was_asked_for(searched: Canopy) -> None:
    status = searched.json("status")
    assert status["study"] == "planet"
    trials = status["trials"]
    assert trials["finished"] == 6 == trials["complete"] + trials["pruned"]
    assert (trials["failed"], trials["running"], trials["waiting"]) == (0, 0, 0)
    epochs = status["epochs"]
    assert epochs["reported"] == epochs["trained"] + epochs["replayed"] > 0
    assert status["seconds"] > 0


def test_the_enqueued_settings_come_first(searched: Canopy) -> None:
    first, second = searched.json("trials")[:2]
    assert first["params"] == {"backbone": "tinycnn_8", "loss": "bce", "gamma": 1.0}
    assert second["params"] == {"backbone": "tinycnn_8", "loss": "weighted_bce", "gamma": 1.0}


def test_the_best_is_the_best_of_the_complete(searched: Canopy) -> None:
    best = searched.json("status")["best"]
    complete = [t for t in searched.json("trials") if t["state"] == "COMPLETE"]
    assert best["val_ap"] == max(trial["val_ap"] for trial in complete)
    assert best["params"] == next(t for t in complete if t["number"] == best["number"])["params"]


def test_every_epoch_of_every_trial_has_its_metrics(searched: Canopy) -> None:
    for trial in searched.json("trials"):
        assert [epoch["epoch"] for epoch in trial["metrics"]] == list(
            range(1, len(trial["metrics"]) + 1)
        )
        assert trial["val_ap"] == trial["metrics"][-1]["val_ap"]
        loss = trial["params"]["loss"]
        for epoch in trial["metrics"]:
            assert epoch.keys() >= {"val_ap", "val_f1", "val_f2", f"val_{loss}_loss", "train_s"}
            assert set(epoch["val_ap_per_label"]) == set(LABEL_RATES)
        if trial["state"] == "PRUNED":
            assert trial["reason"] is not None


def test_the_output_is_plain_lines(searched: Canopy) -> None:
    output = (searched.folder / "output.txt").read_text()
    assert "\x1b" not in output
    assert "\r" not in output
    assert "[6/6] trial 5 " in output
    assert "6 finished" in output


def test_the_same_command_again_changes_nothing(searched: Canopy) -> None:
    before = searched.json("trials")
    searched.run("search", "--config", "canopy.yaml", "--trials", "6")
    assert searched.json("trials") == before


def test_the_best_setting_trains_to_the_study_s_validation_ap_exactly(searched: Canopy) -> None:
    searched.run("best", "--output", "best.yaml")
    best = searched.json("status")["best"]
    exported = read_yaml(searched.folder / "best.yaml")
    assert exported["provenance"]["trial"] == best["number"]
    assert exported["provenance"]["val_ap"] == best["val_ap"]
    assert load_config(searched.folder / "best.yaml").training.epochs == 3

    result = searched.json("train", "best.yaml", "--output", "model.pt")
    assert result["val_ap"] == best["val_ap"]
    assert result["same_data"] is True
    assert 0 < result["test_ap"] <= 1
    assert "exactly" in searched.run("train", "best.yaml").stdout

    model = load_model(searched.folder / "model.pt")
    assert model.labels == tuple(sorted(LABEL_RATES))
    assert model.metrics["val_ap"] == best["val_ap"]
    assert model.settings["training"]["loss"] == best["params"]["loss"]
    assert validation_ap(searched, model) == pytest.approx(best["val_ap"], abs=1e-6)


def validation_ap(searched: Canopy, model: TrainedModel) -> float:
    """Scores a model file as somebody would who has nothing but the file and the images."""
    dataset = open_dataset(load_config(searched.folder / "canopy.yaml").data, searched.folder / "x")
    rows = dataset.split.validation
    pixels = torch.from_numpy(dataset.pixels[rows])
    with torch.inference_mode():
        logits = model.network(normalised(pixels))
    ap = average_precision(logits, torch.from_numpy(dataset.targets[rows]))
    return float(np.nanmean(ap))


def test_another_setting_or_data_set_is_refused_with_the_differences(searched: Canopy) -> None:
    document = read_yaml(searched.folder / "canopy.yaml")
    document["training"]["epochs"] = 4
    document["data"]["image_px"] = 40
    (searched.folder / "other.yaml").write_text(yaml_text(document))
    before = searched.json("trials")
    refused = searched.run("search", "--config", "other.yaml", status=2).stderr
    assert "training.epochs: 3 in the study, 4 now" in refused
    assert "data.image_px: 32 in the study, 40 now" in refused
    assert "--study NAME" in refused
    assert searched.json("trials") == before


def test_trials_count_for_the_study_and_can_be_raised(searched: Canopy) -> None:
    document = read_yaml(searched.folder / "canopy.yaml")
    document["search"]["study"] = "second"
    (searched.folder / "second.yaml").write_text(yaml_text(document))
    for total in (1, 2):
        searched.run("search", "--config", "second.yaml", "--trials", str(total))
        status = searched.json("status", "--config", "second.yaml")
        assert status["trials"]["finished"] == total


def test_optuna_dashboard_shows_the_study(searched: Canopy) -> None:
    process = searched.start("dashboard")
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        address = line.split()[2]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}api/studies", timeout=60) as answer:  # noqa: S310
            assert b'"planet"' in answer.read()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_optuna_itself_reads_the_study(searched: Canopy) -> None:
    url = searched.database_url
    study = optuna.load_study(study_name="planet", storage=url)
    assert len(study.trials) == 6
    assert study.best_value == searched.json("status")["best"]["val_ap"]
