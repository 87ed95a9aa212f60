import hashlib
import io
import os
import pickle
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion
from torchvision.models import get_model

from canopy_search.training.network import backbones
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.pretrained import (
    PretrainedWeightsError,
    PublishedFile,
    pretrained_state,
    unavailable,
)


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def saved(state: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


class Published:
    """Weights published as a file of this machine, and torch's cache."""

    def __init__(self, folder: Path, content: bytes) -> None:
        digits = hashlib.sha256(content).hexdigest()[:8]
        self.origin = folder / f"net-{digits}.pth"
        self.origin.write_bytes(content)
        self.cached = folder / "hub" / "checkpoints" / self.origin.name
        self.weights: Any = SimpleNamespace(url=self.origin.as_uri())

    def cache(self, content: bytes) -> None:
        self.cached.parent.mkdir(parents=True)
        self.cached.write_bytes(content)


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.mark.parametrize("new_format", [True, False])
def test_weights_are_downloaded_once(tmp_path: Path, new_format: bool) -> None:
    content = saved({"w": torch.ones(2)}, _use_new_zipfile_serialization=new_format)
    published = Published(tmp_path, content)
    assert pretrained_state(published.weights)["w"].tolist() == [1, 1]
    published.origin.unlink()
    assert pretrained_state(published.weights)["w"].tolist() == [1, 1]


@pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "downloaded"])
def test_code_among_the_weights_is_never_run(tmp_path: Path, is_cached: bool) -> None:
    # The digits in a name are few enough for a forged file with the right ones.
    content = saved({"w": Code(tmp_path / "ran")})
    published = Published(tmp_path, content)
    if is_cached:
        published.cache(content)
    with pytest.raises(PretrainedWeightsError, match="none of it was run"):
        pretrained_state(published.weights)
    assert not (tmp_path / "ran").exists()


def test_another_file_in_the_cache_is_named_with_the_remedy(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    published = Published(tmp_path, saved({"w": torch.ones(2)}))
    published.cache(pickle.dumps(Code(tmp_path / "ran")))
    with pytest.raises(PretrainedWeightsError) as caught:
        pretrained_state(published.weights)
    message = str(caught.value)
    assert message.startswith(f"{published.cached}: ")
    assert message.partition("with ")[0].removeprefix(str(published.cached)) == words
    assert "delete it" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file_in_the_cache_is_named(tmp_path: Path, share: float) -> None:
    content = saved({"w": torch.ones(200)})
    published = Published(tmp_path, content)
    published.cache(content[: int(share * len(content))])
    with pytest.raises(PretrainedWeightsError, match=str(published.cached)):
        pretrained_state(published.weights)


def test_weights_that_cannot_be_downloaded_are_named_with_the_remedy(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    published = Published(tmp_path, saved({"w": torch.ones(2)}))
    published.origin.unlink()
    with pytest.raises(PretrainedWeightsError) as caught:
        pretrained_state(published.weights)
    message = str(caught.value)
    assert published.weights.url in message
    assert message.partition("; ")[2].replace(str(tmp_path), "FOLDER") == words
    assert caught.value.exit_status == 1


def test_what_is_cached_or_can_be_downloaded_is_available(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    cached = PublishedFile("https://127.0.0.1:1/a", tmp_path / "here")
    published = PublishedFile((tmp_path / "here").as_uri(), tmp_path / "nowhere")
    refused = PublishedFile("http://127.0.0.1:1/a", tmp_path / "nowhere")
    reasons = unavailable([cached, published, refused])
    assert list(reasons) == [refused]
    assert "refused" in reasons[refused]


def test_a_server_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        file = PublishedFile(f"http://127.0.0.1:{port}/a", tmp_path / "nowhere")
        assert unavailable([file], limit_s=0.1).keys() == {file}


def test_a_pipe_in_the_cache_is_not_opened(tmp_path: Path) -> None:
    published = Published(tmp_path, b"")
    published.cached.parent.mkdir(parents=True)
    os.mkfifo(published.cached)
    with pytest.raises(PretrainedWeightsError, match=f"{published.cached}: .*a pipe"):
        pretrained_state(published.weights)


def test_compressed_weights_are_not_unpacked(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)
    with pytest.raises(PretrainedWeightsError, match="compressed"):
        pretrained_state(Published(tmp_path, packed.getvalue()).weights)


ODD: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "no mapping": lambda _s: [1],
    "one tensor": lambda _s: torch.ones(2),
    "nothing": lambda _s: None,
    "empty": lambda _s: {},
    "a number for a name": lambda s: {**s, 1: torch.ones(1)},
    "a number for a tensor": lambda s: dict.fromkeys(s, 1),
    "a text for a tensor": lambda s: dict.fromkeys(s, "\x1b[2J"),
    "a control character": lambda s: {**s, "\x1b[2J": torch.ones(1)},
    "another shape": lambda s: {name: tensor[..., :1] for name, tensor in s.items()},
    "a larger shape": lambda s: {name: torch.ones(1).expand(10**12) for name in s},
    "another type": lambda s: {name: tensor.to(torch.complex64) for name, tensor in s.items()},
    "no data": lambda s: {name: tensor.to("meta") for name, tensor in s.items()},
    "sparse": lambda s: {name: tensor.to_sparse() for name, tensor in s.items()},
    "something more": lambda s: {"state": s, "epoch": 3},
}


@pytest.mark.parametrize("odd", ODD)
def test_other_content_of_a_cached_file_is_named(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = get_model("squeezenet1_1", weights=None).state_dict()
    published = Published(tmp_path, saved(ODD[odd](dict(state))))
    weights = SimpleNamespace(url=published.weights.url, meta={"categories": range(1000)})
    monkeypatch.setattr(
        backbones, "get_model_weights", lambda _name: SimpleNamespace(DEFAULT=weights)
    )
    with pytest.raises(PretrainedWeightsError) as caught:
        build_backbone("squeezenet1_1", labels=2, image_px=64, weights="imagenet", seed=0)
    line = str(caught.value)
    assert line.startswith(f"{published.cached}: ")
    assert len(line.splitlines()) == 1
    assert len(line) < 1000
    assert "delete it" in line
