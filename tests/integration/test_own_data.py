"""Three data sets of different shape, from `canopy init` to `canopy predict`: docs/your-data.md."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.study.configuration import load_config
from canopy_search.search.workflows import init as workflow
from canopy_search.training.network.model_file import load_model
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data
from tests.shaped_data import LABELS, write_one_hot, write_parquet, write_tiles

QUICK = ("--backbone", "tinycnn_8", "--epochs", "2")


class Layout(NamedTuple):
    """How data are laid out.

    Attributes:
        write: writes them.
        labels: the label file.
        images: the folder.
        found: what `canopy init` says of them.
    """

    write: Callable[[Path], object]
    labels: str
    images: str
    found: list[str]


@pytest.mark.parametrize(
    "layout",
    [
        Layout(
            lambda folder: write_planet_data(folder, images=60),
            "train_classes.csv",
            "train-jpg",
            ["60 of 60", "60 JPEG", "tags separated by spaces"],
        ),
        Layout(
            lambda folder: write_one_hot(folder, images=60),
            "labels.csv",
            "pictures",
            ["60 PNG", "a column for each label", "not read: age", "by the column 'split'"],
        ),
        Layout(
            lambda folder: write_parquet(folder, images=60),
            "labels.parquet",
            "scans",
            ["30 WEBP, 30 TIFF", "tags in lists", "15 groups by 'Patient ID'"],
        ),
    ],
    ids=["Planet's layout", "one-hot in subfolders", "Parquet with groups"],
)
def test_five_commands_from_data_to_predictions(
    tmp_path: Path, database_url: str, layout: Layout
) -> None:
    write, labels, images, found = layout
    write(tmp_path)
    user = InProcess(tmp_path, database_url)

    report = user.run("init", "--labels", labels, "--images", images, *QUICK).stdout
    for text in found:
        assert text in report
    user.run("search", "--trials", "2")
    user.run("best", "--output", "best.yaml")
    trained = user.run("train", "best.yaml", "--output", "model.pt").stdout
    user.run("predict", "model.pt", images, "--output", "tags.csv")

    assert user.json("status")["trials"]["finished"] == 2
    assert "exactly" in trained
    with (tmp_path / "tags.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert all(0 < float(row[name]) < 1 for row in rows for name in row if name.startswith("p_"))


@pytest.mark.parametrize("reason", [None, "no network here"])
def test_published_weights_are_proposed_if_they_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str | None, words: SnapshotAssertion
) -> None:
    write_planet_data(tmp_path, images=40)
    monkeypatch.setattr(
        workflow, "unavailable", lambda files: {each: reason for each in files if reason}
    )
    user = InProcess(tmp_path)

    report = user.run("init", "--labels", "train_classes.csv", "--images", "train-jpg").stdout

    training = load_config(tmp_path / "canopy.yaml").settings.training
    assert training.weights == ("none" if reason else "imagenet")
    assert [line for line in report.splitlines() if line.startswith("weights ")] == words


@pytest.mark.parametrize("weights", ["none.pth", "imagnet", "imagenet"])
def test_weights_that_nobody_has_are_refused(tmp_path: Path, weights: str) -> None:
    write_planet_data(tmp_path, images=40)
    arguments = ("--labels", "train_classes.csv", "--images", "train-jpg", *QUICK)
    said = InProcess(tmp_path).run("init", *arguments, "--weights", weights, status=2).stderr
    assert weights in said or "published" in said
    assert not (tmp_path / "canopy.yaml").exists()


def test_groups_are_whole_in_what_the_search_uses(tmp_path: Path) -> None:
    from canopy_search.training.data.dataset import open_dataset

    write_parquet(tmp_path)
    user = InProcess(tmp_path)
    user.run("init", "--labels", "labels.parquet", "--images", "scans", *QUICK)

    dataset = open_dataset(
        load_config(tmp_path / "canopy.yaml").settings.data, tmp_path / ".canopy"
    )

    assert dataset.labels == tuple(sorted(LABELS))
    parts = [
        {int(dataset.image_names[at].removeprefix("scan_")) // 4 for at in part}
        for part in (dataset.split.train, dataset.split.validation, dataset.split.test)
    ]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert len(parts[0] | parts[1] | parts[2]) == 30


TILES = ("init", "--labels", "labels.csv", "--images", "tiles", *QUICK)


def test_bands_are_asked_for_and_then_used_by_every_command(
    tmp_path: Path, database_url: str, words: SnapshotAssertion
) -> None:
    write_tiles(tmp_path)
    user = InProcess(tmp_path, database_url)

    said = user.run(*TILES, status=2).stderr
    assert not (tmp_path / "canopy.yaml").exists()
    report = user.run(*TILES, "--bands", "3,2,1").stdout
    data = load_config(tmp_path / "canopy.yaml").settings.data
    user.run("train", "canopy.yaml", "--output", "model.pt")
    user.run("predict", "model.pt", "tiles", "--output", "tags.csv")

    wrong = user.run(*TILES, "--force", "--bands", "0,1", status=2).stderr
    assert said.splitlines()[-1] + "\n" + wrong == words
    assert "40 of 4 bands of 16 bits" in report
    assert "red, green and blue are bands 3, 2, 1 (data.bands)" in report
    assert "black to white (data.range)" in report
    assert data.range == (680, 3260)
    model = load_model(tmp_path / "model.pt")
    assert (model.conversion.bands, model.conversion.range) == (data.bands, data.range)
    assert len((tmp_path / "tags.csv").read_text().splitlines()) == 41


def test_init_never_replaces_a_configuration_unasked(tmp_path: Path) -> None:
    write_planet_data(tmp_path, images=40)
    (tmp_path / "canopy.yaml").write_text("mine: true\n")
    user = InProcess(tmp_path)
    arguments = ("init", "--labels", "train_classes.csv", "--images", "train-jpg")

    said = user.run(*arguments, status=2).stderr

    assert said.startswith("canopy: canopy.yaml: ")
    assert "--force" in said
    assert (tmp_path / "canopy.yaml").read_text() == "mine: true\n"
    user.run(*arguments, "--force")
    assert (
        load_config(tmp_path / "canopy.yaml").settings.data.labels == tmp_path / "train_classes.csv"
    )


GIVEN = ("--labels", "train_classes.csv", "--images", "train-jpg")


def test_what_init_cannot_use_is_said(tmp_path: Path, words: SnapshotAssertion) -> None:
    write_planet_data(tmp_path, images=40)
    asked: dict[tuple[str, ...], list[str]] = {
        ("--labels", "no.csv", "--images", "train-jpg"): ["no.csv: "],
        ("--labels", "train_classes.csv", "--images", "no"): ["no: "],
        (*GIVEN, "--augment", "hflop"): ["'hflop'", "'hflip'"],
        (*GIVEN, "--backbone", "resnet19"): ["'resnet19'", "resnet18"],
        (*GIVEN, "--tags-column", "tag"): ["'tag'", "image_name, tags"],
    }
    said = []
    for arguments, parts in asked.items():
        said.append(InProcess(tmp_path).run("init", *arguments, status=2).stderr)
        for part in parts:
            assert part in said[-1]
    assert "".join(said).replace(str(tmp_path), "TMP_PATH") == words
    assert "--images" in InProcess(tmp_path).run("init", *GIVEN[:2], status=2).stderr
    assert not (tmp_path / "canopy.yaml").exists()


def test_files_that_the_label_file_does_not_name_are_counted(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    write_planet_data(tmp_path, images=40)
    images = tmp_path / "train-jpg"
    for name in ("a.jpg", "b.png"):
        (images / name).write_bytes((images / "train_0.jpg").read_bytes())
    (images / "train_3.jpg").unlink()
    (images / "train_3.jpg").symlink_to("nowhere.jpg")

    user = InProcess(tmp_path)
    said = user.run("init", *GIVEN, status=2).stderr
    assert "1 of 40 images" in said
    assert not (tmp_path / "canopy.yaml").exists()
    report = user.run("init", *GIVEN, "--allow-missing").stdout

    told = [line for line in report.splitlines() if "2 images" in line or "train_3" in line]
    assert len(told) == 2
    assert told == words


def test_links_into_a_store_are_followed_if_the_user_says_so(tmp_path: Path) -> None:
    store, project = tmp_path / "store", tmp_path / "project"
    write_planet_data(store, images=40)
    (project / "images").mkdir(parents=True)
    (project / "labels.csv").symlink_to(store / "train_classes.csv")
    for at, image in enumerate(sorted((store / "train-jpg").iterdir())):
        image.rename(store / f"{at:032x}")
        (project / "images" / image.name).symlink_to(store / f"{at:032x}")
    user = InProcess(project)
    data = ("--labels", "labels.csv", "--images", "images")

    refused = user.run("init", *data, status=2).stderr
    assert "--follow-links" in refused
    assert list(project.glob("*.yaml")) + list(project.rglob("*.html")) == []
    report = user.run("init", *data, *QUICK, "--follow-links").stdout

    assert "40 of 40 can be used" in report
    assert report.count(".canopy/contact_sheet.html") == 1
    assert (project / ".canopy" / "contact_sheet.html").stat().st_size < 3e6
    written = load_config(project / "canopy.yaml").settings.data
    assert written.follow_links
    # Not what the link points to today.
    assert written.labels == project / "labels.csv"
    assert "40 images" in user.run("doctor", status=None).stdout
    assert "40 images" in user.run("plan").stdout


def test_a_folder_that_no_study_can_be_called_after_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 55 + "\x07")
    write_planet_data(folder, images=40)

    InProcess(folder).run("init", "--labels", "train_classes.csv", "--images", "train-jpg")

    assert load_config(folder / "canopy.yaml").settings.search.study == "canopy"


def test_a_configuration_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    write_planet_data(tmp_path, images=40)
    labels = tmp_path / "train_classes.csv"
    labels.write_text(labels.read_text().replace("image_name", "image\x07name"))

    said = InProcess(tmp_path).run(
        "init", "--labels", "train_classes.csv", "--images", "train-jpg", status=2
    )

    assert "canopy.yaml" in said.stderr
    assert "image\\x07name" in said.stderr
    assert "\x07" not in said.stderr
    assert not list(tmp_path.glob("*.yaml*")) + list(tmp_path.glob(".*.draft"))
