"""Label files that nobody should write, through the command."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given

from tests.examples import examples, pinned
from tests.hostile_labels import LABEL_FILES, NASTIEST
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

LONG_S = 3600  # thousands of examples on a busy machine
SETTINGS = examples(few=10, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, beside a secret one that links lead to."""
    folder = tmp_path_factory.mktemp("hostile") / "user"
    write_planet_data(folder, images=12, image_px=8)
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes((folder / "train-jpg/train_0.jpg").read_bytes())
    (folder / "train-jpg" / "link.jpg").symlink_to(outside / "secret.jpg")
    (folder / "train-jpg" / "folder").symlink_to(outside)
    return folder


def contents(folder: Path) -> dict[str, int]:
    """Every file of a folder and when it was changed."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@SETTINGS
@pinned("content", NASTIEST[::3])  # it reads them as training does
@given(content=LABEL_FILES)
@pytest.mark.timeout(LONG_S)
def test_init_ends_with_a_report_or_one_line(folder: Path, content: bytes) -> None:
    (folder / "labels.csv").write_bytes(content)
    (folder / "canopy.yaml").unlink(missing_ok=True)
    before = contents(folder / "train-jpg") | contents(folder.parent / "outside")
    user = InProcess(folder)

    process = user.run("init", "--labels", "labels.csv", "--images", "train-jpg", status=None)

    assert contents(folder / "train-jpg") | contents(folder.parent / "outside") == before
    if process.returncode == 0:
        assert (folder / "canopy.yaml").exists()
    else:
        assert process.returncode in {1, 2}
        assert not (folder / "canopy.yaml").exists()
        said = [line for line in process.stderr.splitlines() if line.startswith("canopy: ")]
        assert len(said) == 1
    assert "\x1b" not in process.stdout + process.stderr
    assert "secret" not in process.stdout


@SETTINGS
@pinned("content", NASTIEST)
@given(content=LABEL_FILES)
@pytest.mark.timeout(LONG_S)
def test_train_ends_with_one_line(folder: Path, content: bytes) -> None:
    """With a place for the model that cannot be one, so that no good data set is trained."""
    (folder / "labels.csv").write_bytes(content)
    (folder / "train.yaml").write_text(
        "data: {labels: labels.csv, images: train-jpg, image_px: 8, allow_missing: true}\n"
        "training: {backbone: tinycnn_8}\n"
    )
    before = contents(folder / "train-jpg") | contents(folder.parent / "outside")

    arguments = ("train", "train.yaml", "--output", "labels.csv/model.pt")
    process = InProcess(folder).run(*arguments, status=None)

    assert contents(folder / "train-jpg") | contents(folder.parent / "outside") == before
    assert process.returncode in {1, 2}
    assert len([line for line in process.stderr.splitlines() if line.startswith("canopy: ")]) == 1
    assert "\x1b" not in process.stdout + process.stderr
