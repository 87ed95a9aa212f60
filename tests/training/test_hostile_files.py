"""Models, published weights and checkpoints from elsewhere: no code runs, one line says why not."""

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from canopy_search.training.checkpoint import state_from_bytes
from canopy_search.training.errors import CheckpointError, TrainingError
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.model_file import TrainedModel, load_model, save_model
from canopy_search.training.network.pretrained import PretrainedWeightsError, pretrained_state
from tests.hostile_pickles import FORMS, calls, hostile_files

pytestmark = pytest.mark.usefixtures("one_thread")


def read_model(folder: Path, content: bytes) -> None:
    path = folder / "model.pt"
    path.write_bytes(content)
    load_model(path)


def read_weights(folder: Path, content: bytes) -> None:
    """The digits in the name are right: they are few enough to be forged."""
    digits = hashlib.sha256(content).hexdigest()[:8]
    file = folder / "checkpoints" / f"net-{digits}.pth"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    weights: Any = SimpleNamespace(url=f"https://example.invalid/{file.name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "get_dir", lambda: str(folder))
        try:
            pretrained_state(weights)
        finally:
            file.unlink()


def read_checkpoint(_folder: Path, content: bytes) -> None:
    state_from_bytes(content)


READERS: dict[str, tuple[Callable[[Path, bytes], None], type[TrainingError], str]] = {
    "model": (read_model, CheckpointError, "model.pt: "),
    "weights": (read_weights, PretrainedWeightsError, ".pth: "),
    "checkpoint": (read_checkpoint, CheckpointError, ""),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def valid(folder: Path) -> tuple[bytes, bytes]:
    """A model as `canopy train` writes it, and its content as torch wrote files before 1.6."""
    network = build_backbone("tinycnn_8", labels=2, image_px=16, weights="none", seed=0)
    settings = {"data": {}, "training": {"backbone": "tinycnn_8", "weights": "none"}}
    path = folder / "valid.pt"
    save_model(path, TrainedModel(network, ("a", "b"), 16, settings, {}, {"f1": (0.0, 0.5)}))
    earlier = io.BytesIO()
    content = torch.load(path, weights_only=True)
    torch.save(content, earlier, _use_new_zipfile_serialization=False)
    return path.read_bytes(), earlier.getvalue()


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_no_code_runs_and_one_line_names_the_file(
    kind: str, folder: Path, valid: tuple[bytes, bytes], data: st.DataObject
) -> None:
    read, refusal, named = READERS[kind]
    ran = folder / "ran"
    content = data.draw(hostile_files(calls(str(ran)), *valid))
    with warnings.catch_warnings(record=True) as printed:
        warnings.simplefilter("always")
        try:
            read(folder, content)
        except refusal as error:
            line = str(error)
            assert named in line
            assert line.isprintable()
            assert "weights_only" not in line
    assert not printed
    assert not ran.exists()


@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.parametrize("call", range(len(calls(""))))
def test_the_calls_of_these_files_would_run(form: int, call: int, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = FORMS[form](*(part.encode() for part in calls(str(ran))[call]))
    with suppress(Exception):  # afterwards
        pickle.loads(program + b".")  # noqa: S301 - our own
    assert ran.exists()
