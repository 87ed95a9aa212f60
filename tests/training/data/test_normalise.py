import pytest
import torch
from torchvision.transforms.v2 import functional

from canopy_search.training.data.normalise import IMAGENET, PixelScale, normalised


def pixels(batch: int = 3, height: int = 5, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator)


def by_torchvision(images: torch.Tensor, scale: PixelScale = IMAGENET) -> torch.Tensor:
    scaled = functional.to_dtype(images.permute(0, 3, 1, 2), torch.float32, scale=True)
    return functional.normalize(scaled, list(scale.mean), list(scale.std))


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 8, 8), (2, 1, 1)])
def test_it_agrees_with_torchvision(shape: tuple[int, int, int]) -> None:
    images = pixels(*shape)

    result = normalised(images)

    assert result.dtype == torch.float32
    torch.testing.assert_close(result, by_torchvision(images), rtol=1e-5, atol=1e-6)


def test_another_scale_does_not_take_the_place_of_the_first() -> None:
    images, half = pixels(), PixelScale((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))
    for scale in (IMAGENET, half, IMAGENET):
        torch.testing.assert_close(
            normalised(images, scale), by_torchvision(images, scale), rtol=1e-5, atol=1e-6
        )


def test_it_is_channels_last_and_leaves_the_pixels_alone() -> None:
    images = pixels()
    before = images.clone()

    result = normalised(images)

    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_pixels_need_not_be_contiguous() -> None:
    images = pixels(2, 8, 8)

    assert torch.equal(normalised(images.flip(2)), normalised(images.flip(2).contiguous()))
    assert torch.equal(normalised(images[:, ::2]), normalised(images[:, ::2].contiguous()))


def test_training_can_use_what_validation_made() -> None:
    pixels = torch.full((1, 2, 11, 3), 128, dtype=torch.uint8)
    with torch.inference_mode():
        normalised(pixels)
    weight = torch.ones(3, requires_grad=True)
    (normalised(pixels) * weight.view(1, 3, 1, 1)).sum().backward()
    assert weight.grad is not None


def test_what_was_normalised_before_changes_nothing() -> None:
    pixels = torch.arange(2 * 3 * 5 * 3, dtype=torch.uint8).view(2, 3, 5, 3)
    first = normalised(pixels).clone()
    normalised(torch.zeros(1, 3, 7, 3, dtype=torch.uint8))
    assert torch.equal(normalised(pixels), first)
