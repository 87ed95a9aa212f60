"""Data and checkpoints in a bucket, through the command: equal numbers, deaths, checks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.database import Database
from tests.bucket import Bucket
from tests.integration.canopy_command import Canopy
from tests.integration.in_process import InProcess
from tests.integration.killing import kill_in_epoch
from tests.integration.test_stage_tree import (
    CONFIG,
    TWO,
    epochs_of,
    numbers,
)
from tests.planet_data import write_planet_data
from tests.shared_servers import execute

LOCAL = "labels: train_classes.csv, images: train-jpg"

User = Callable[..., InProcess]


@pytest.fixture
def data(tmp_path: Path, bucket: Bucket) -> None:
    """60 images, here and in a bucket."""
    write_planet_data(tmp_path, images=60)
    bucket.put("data/train_classes.csv", (tmp_path / "train_classes.csv").read_bytes())
    bucket.put_folder(tmp_path / "train-jpg", "data/train-jpg")


@pytest.fixture
def user(database: Database, database_url: str, tmp_path: Path, bucket: Bucket) -> User:
    """Somebody with a configuration."""

    def with_config(*, remote: bool, enqueue: str = TWO, **replaced: str) -> InProcess:
        text = CONFIG.format(enqueue=enqueue)
        if remote:
            data = f"{bucket.url}/data"
            places = f"labels: {data}/train_classes.csv, images: {data}/train-jpg"
            text = text.replace(LOCAL, places)
            text += f"stages: {{checkpoints: {bucket.url}/checkpoints}}\n"
        for old, new in replaced.items():
            text = text.replace(old, new)
        (tmp_path / "canopy.yaml").write_text(text)
        home = tmp_path / ("remote" if remote else "local")
        return InProcess(tmp_path, database_url, {**bucket.variables, "CANOPY_HOME": str(home)})

    return with_config


def exported(canopy: InProcess, study: str) -> list[Any]:
    """Parameters and every metric of every epoch, but what a clock measured or chance named."""
    return numbers(canopy, "--study", study)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("data")
def test_a_search_in_a_bucket_equals_one_in_folders(user: User, bucket: Bucket) -> None:
    longer = {"epochs: 3": "epochs: 4"}
    here = user(remote=False, **longer)
    here.run("search", "--trials", "4", "--study", "here")
    forget_stages(here)  # whoever shares epochs would prove nothing

    user(remote=True).run("search", "--trials", "4", "--study", "there")
    assert len([key for key in bucket.read_keys() if key.endswith(".jpg")]) == 60
    # A second study on another machine goes on from the checkpoints in the bucket.
    there = user(remote=True, **longer)
    elsewhere = {**there.variables, "CANOPY_HOME": str(there.folder / "elsewhere")}
    there = InProcess(there.folder, there.database_url, elsewhere)
    output = there.run("search", "--trials", "4", "--study", "longer").stdout
    assert "from epoch 3 of trial 0 of there" in output
    assert epochs_of(there, "--study", "longer")["trained"] <= 4

    expected = exported(there, "here")
    assert exported(there, "longer") == expected
    shorter = [[params, state, metrics[:3]] for params, state, metrics in expected]
    assert exported(there, "there") == shorter
    listing = there.json("stages", "ls")
    assert listing["place"] == f"{bucket.url}/checkpoints"
    assert listing["checkpoints"]


def forget_stages(canopy: Canopy) -> None:
    execute(str(canopy.database_url), "DELETE FROM canopy_stage")
    execute(str(canopy.database_url), "DELETE FROM canopy_checkpoint")


@pytest.mark.usefixtures("data")
def test_a_killed_search_goes_on_from_the_bucket(user: User, bucket: Bucket) -> None:
    one = "[{loss: bce, gamma: 0.8}]"
    in_process = user(remote=True, enqueue=one, **{"epochs: 3": "epochs: 4"})
    canopy = Canopy(in_process.folder, in_process.database_url, in_process.variables)
    recorded = kill_in_epoch(canopy, 3, "search", "--trials", "1")
    # Another machine: nothing of the first one's state folder.
    elsewhere = {**in_process.variables, "CANOPY_HOME": str(canopy.folder / "elsewhere")}
    other = InProcess(canopy.folder, canopy.database_url, elsewhere)
    output = other.run("search", "--trials", "1").stdout
    assert f"after epoch {recorded}" in output
    [trial] = other.json("trials")
    assert trial["epochs_resumed"] == recorded
    assert trial["epochs_reported"] == trial["epochs_trained"] == 4

    user(remote=False, enqueue=one, **{"epochs: 3": "epochs: 4"})
    local = InProcess(canopy.folder, canopy.database_url, in_process.variables)
    forget_stages(local)
    local.run("search", "--trials", "1", "--study", "undisturbed")
    assert exported(local, "undisturbed") == exported(other, "planet")


@pytest.mark.usefixtures("data")
def test_init_dry_run_and_doctor_look_into_a_bucket(
    user: User, bucket: Bucket, words: SnapshotAssertion
) -> None:
    canopy = user(remote=True)
    places = (
        *("--labels", f"{bucket.url}/data/train_classes.csv"),
        *("--images", f"{bucket.url}/data/train-jpg"),
    )
    output = canopy.run("init", *places, "--output", "new.yaml", "--backbone", "tinycnn_8").stdout
    [line] = [line for line in output.splitlines() if "60 of 60" in line]
    assert "60 JPEG" in line
    assert "32×32" in line
    written = (canopy.folder / "new.yaml").read_text()
    assert f"images: {bucket.url}/data/train-jpg" in written
    assert "study: data" in written

    dry = canopy.run("search", "--dry-run").stdout
    assert bucket.keys("checkpoints") == []
    healthy = canopy.run("doctor", status=None).stdout
    assert f"{bucket.url}/data/train_classes.csv: 60 images" in healthy
    told = [line for text in (dry, healthy) for line in text.splitlines() if "/checkpoints" in line]
    assert [
        re.sub(r" +\d+\.\d s ", " SECONDS ", line.replace(bucket.url, "BUCKET")) for line in told
    ] == words

    nobody = {**canopy.variables, "AWS_ACCESS_KEY_ID": ""}
    sick = InProcess(canopy.folder, canopy.database_url, nobody).run("doctor", status=2).stdout
    assert sick.count("AWS_SECRET_ACCESS_KEY") == 2
    elsewhere = {**canopy.variables, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    sick = InProcess(canopy.folder, canopy.database_url, elsewhere).run("doctor", status=2).stdout
    assert sick.count("http://127.0.0.1:9") == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("images: s3://", "images: s3://AKIA:geheim@", "data.images: s3://b"),
        ("checkpoints: s3://", "checkpoints: s3://AKIA:geheim@", "stages.checkpoints: s3://b"),
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_shown(
    user: User, old: str, new: str, says: str
) -> None:
    refused = user(remote=True, **{old: new}).run("search", "--trials", "1", status=2)
    assert says in refused.stderr
    assert "set AWS_ACCESS_KEY_ID" in refused.stderr
    assert "geheim" not in refused.stderr + refused.stdout
