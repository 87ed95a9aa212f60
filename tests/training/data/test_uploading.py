from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from canopy_search.training.data import uploading
from canopy_search.training.data.uploading import uploaded


def test_on_the_cpu_nothing_is_copied_and_nothing_is_taken_ahead() -> None:
    taken: list[int] = []

    def source() -> object:
        for at in range(3):
            taken.append(at)
            yield torch.full((2,), at), torch.full((2, 1), float(at))

    batches = uploaded(source(), torch.device("cpu"))
    for at, (pixels, targets) in enumerate(batches):
        assert taken == list(range(at + 1))
        assert pixels.tolist() == [at, at]
        assert targets.shape == (2, 1)


def test_a_batch_on_its_device_stays_the_same_tensor() -> None:
    pixels, targets = torch.zeros(2), torch.ones(2)
    ((ours, theirs),) = uploaded([(pixels, targets)], torch.device("cpu"))
    assert ours is pixels
    assert theirs is targets


class Copies:
    """CUDA in name only: streams that were made, and what is recorded on them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[object] = []
        monkeypatch.setattr(torch.cuda, "Stream", self.stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
        monkeypatch.setattr(
            torch.cuda, "Event", lambda: SimpleNamespace(record=lambda _stream: None)
        )
        training = SimpleNamespace(wait_event=lambda _event: None)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: training)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda _tensor, _stream: None)
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_arguments, **_options: tensor)

    def stream(self, device: torch.device) -> object:
        self.made.append(device)
        return object()


def test_all_passes_copy_on_one_stream_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    uploading._copying_stream.cache_clear()
    copies, device = Copies(monkeypatch), torch.device("cuda", 0)
    batches = [(torch.full((2,), at), torch.ones(2)) for at in range(3)]
    for _ in range(2):
        got = [pixels.tolist() for pixels, _ in uploaded(batches, device)]
        assert got == [[0, 0], [1, 1], [2, 2]]
    assert copies.made == [device]
    uploading._copying_stream.cache_clear()
