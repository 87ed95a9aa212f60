import torch

from canopy_search.training.data.uploading import uploaded


def test_on_the_cpu_nothing_is_copied_and_nothing_is_taken_ahead() -> None:
    taken: list[int] = []

    def source() -> object:
        for at in range(3):
            taken.append(at)
            yield torch.full((2,), at), torch.full((2, 1), float(at))

    batches = uploaded(source(), torch.device("cpu"))  # type: ignore[arg-type]
    for at, (pixels, targets) in enumerate(batches):
        assert taken == list(range(at + 1))
        assert pixels.tolist() == [at, at]
        assert targets.shape == (2, 1)


def test_a_batch_on_its_device_stays_the_same_tensor() -> None:
    pixels, targets = torch.zeros(2), torch.ones(2)
    ((ours, theirs),) = uploaded([(pixels, targets)], torch.device("cpu"))
    assert ours is pixels
    assert theirs is targets
