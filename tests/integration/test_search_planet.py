"""The main job on a data set in Planet's layout, through the command."""

import re
import urllib.request

import numpy as np
import optuna
import pytest
import torch

from canopy_search.search.config.yaml_file import read_yaml, yaml_text
from canopy_search.search.study.configuration import load_config
from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.data.normalise import normalised
from canopy_search.training.metrics import average_precision
from canopy_search.training.network.model_file import TrainedModel, load_model
from tests.integration.conftest import FINISHED_TRIALS, OUTPUT
from tests.integration.in_process import InProcess
from tests.planet_data import LABEL_RATES


def test_the_search_ends_with_the_trials_it_was_asked_for(finished: InProcess) -> None:
    status = finished.json("status")
    assert status["study"] == "planet"
    trials = status["trials"]
    assert trials["finished"] == FINISHED_TRIALS == trials["complete"] + trials["pruned"]
    assert (trials["failed"], trials["running"], trials["waiting"]) == (0, 0, 0)
    epochs = status["epochs"]
    assert epochs["reported"] == epochs["trained"] + epochs["replayed"] > 0
    assert status["seconds"] > 0


def test_the_enqueued_settings_come_first(finished: InProcess) -> None:
    enqueued = load_config(finished.folder / "canopy.yaml").settings.search.enqueued
    found = [trial["params"] for trial in finished.json("trials")[: len(enqueued)]]
    assert found == [each.params for each in enqueued]
    assert len(found) == 4


def test_the_best_is_the_best_of_the_complete(finished: InProcess) -> None:
    best = finished.json("status")["best"]
    complete = [t for t in finished.json("trials") if t["state"] == "COMPLETE"]
    assert best["val_ap"] == max(trial["val_ap"] for trial in complete)
    assert best["params"] == next(t for t in complete if t["number"] == best["number"])["params"]


def test_every_epoch_of_every_trial_has_its_metrics(finished: InProcess) -> None:
    for trial in finished.json("trials"):
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
    assert {trial["state"] for trial in finished.json("trials")} == {"COMPLETE", "PRUNED"}


def test_the_output_is_plain_lines(finished: InProcess) -> None:
    output = (finished.folder / OUTPUT).read_text()
    assert "\x1b" not in output
    assert "\r" not in output
    assert "[5/5] trial 4 " in output
    assert f"{FINISHED_TRIALS} finished" in output


def test_it_ends_with_a_verdict_against_the_baseline(finished: InProcess) -> None:
    output = (finished.folder / OUTPUT).read_text()
    [line] = [line for line in output.splitlines() if line.startswith("The baseline, trial 0 ")]
    assert re.search(r", which is (more than|within) noise \(", line)


def test_the_same_command_again_changes_nothing(finished: InProcess) -> None:
    before = finished.json("trials")
    finished.run("search", "--config", "canopy.yaml", "--trials", str(FINISHED_TRIALS))
    assert finished.json("trials") == before


def test_the_best_setting_trains_to_the_study_s_validation_ap_exactly(finished: InProcess) -> None:
    finished.run("best", "--output", "best.yaml")
    best = finished.json("status")["best"]
    exported = read_yaml(finished.folder / "best.yaml")
    assert exported["provenance"]["trial"] == best["number"]
    assert exported["provenance"]["val_ap"] == best["val_ap"]
    assert load_config(finished.folder / "best.yaml").settings.training.epochs == 3

    result = finished.json("train", "best.yaml", "--output", "model.pt")
    assert result["val_ap"] == best["val_ap"]
    assert result["same_data"] is True
    assert 0 < result["test_ap"] <= 1
    assert "exactly" in finished.run("train", "best.yaml").stdout

    model = load_model(finished.folder / "model.pt")
    assert model.labels == tuple(sorted(LABEL_RATES))
    assert model.metrics["val_ap"] == best["val_ap"]
    assert model.settings["training"]["loss"] == best["params"]["loss"]
    assert validation_ap(finished, model) == pytest.approx(best["val_ap"], abs=1e-6)


def validation_ap(finished: InProcess, model: TrainedModel) -> float:
    """Scores a model file as somebody would who has nothing but the file and the images."""
    dataset = open_dataset(
        load_config(finished.folder / "canopy.yaml").settings.data, finished.folder / "x"
    )
    rows = dataset.split.validation
    pixels = torch.from_numpy(dataset.pixels[rows])
    with torch.inference_mode():
        logits = model.network(normalised(pixels))
    ap = average_precision(logits, torch.from_numpy(dataset.targets[rows]))
    return float(np.nanmean(ap))


def test_another_setting_or_data_set_is_refused_with_the_differences(finished: InProcess) -> None:
    document = read_yaml(finished.folder / "canopy.yaml")
    document["training"]["epochs"] = 4
    document["data"]["image_px"] = 40
    (finished.folder / "other.yaml").write_text(yaml_text(document))
    before = finished.json("trials")
    refused = finished.run("search", "--config", "other.yaml", status=2).stderr
    assert "training.epochs: 3 in the study, 4 now" in refused
    assert "data.image_px: 32 in the study, 40 now" in refused
    assert "--study NAME" in refused
    assert finished.json("trials") == before


def test_trials_count_for_the_study_and_can_be_raised(own_finished: InProcess) -> None:
    before = own_finished.json("trials")
    for total in (FINISHED_TRIALS + 1, FINISHED_TRIALS + 1):
        own_finished.run("search", "--trials", str(total))
        after = own_finished.json("trials")
        assert len(after) == total
        assert after[:FINISHED_TRIALS] == before


def test_optuna_dashboard_shows_the_study(finished: InProcess) -> None:
    process = finished.start("dashboard")
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        address = line.split()[2]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}api/studies", timeout=240) as answer:  # noqa: S310
            assert b'"planet"' in answer.read()
    finally:
        process.terminate()
        process.communicate(timeout=240)


def test_optuna_itself_reads_the_study(finished: InProcess) -> None:
    url = finished.database_url
    study = optuna.load_study(study_name="planet", storage=url)
    assert len(study.trials) == FINISHED_TRIALS
    assert study.best_value == finished.json("status")["best"]["val_ap"]
