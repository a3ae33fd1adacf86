import torch

from unnoise.evaluation.augment import random_affine
from unnoise.randomness import Streams


def blob(height: int = 41, width: int = 41, row: float = 20, column: float = 20) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 8.0)[None, None]


def centre(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(*(torch.arange(s) for s in image.shape[-2:]), indexing="ij")
    total = image.sum((1, 2, 3))
    return (image[:, 0] * y).sum((1, 2)) / total, (image[:, 0] * x).sum((1, 2)) / total


def noise(seed: int = 0) -> Streams:
    return Streams(seed, [0])


def test_no_change_is_the_identity():
    images = torch.rand(3, 2, 9, 14)
    still = random_affine(images, noise(), rotation=0, scale=0, shift=0, shear=0)
    assert torch.allclose(still, images, atol=1e-5)


def test_shift_moves_by_a_share_of_the_side():
    images = blob().expand(200, 1, 41, 41)
    y, x = centre(random_affine(images, noise(), rotation=0, scale=0, shift=0.1, shear=0))
    for moved in (y - 20, x - 20):
        assert 3.5 < moved.abs().max() <= 4.1 + 0.05
        assert moved.mean().abs() < 0.6


def test_rotation_keeps_distances_in_pixels_even_when_not_square():
    images = blob(41, 81, 20, 60).expand(100, 1, 41, 81)  # 20 pixels right of the centre
    y, x = centre(random_affine(images, noise(), rotation=30, scale=0, shift=0, shear=0))
    assert torch.allclose(torch.hypot(y - 20, x - 40), torch.full((100,), 20.0), atol=0.2)
    angle = torch.rad2deg(torch.atan2(y - 20, x - 40))
    assert 25 < angle.abs().max() <= 30.5
    assert angle.min() < -15 < 15 < angle.max()


def test_scale_reaches_what_it_says_both_ways():
    images = blob(41, 41, 20, 30).expand(200, 1, 41, 41)
    _, x = centre(random_affine(images, noise(), rotation=0, scale=0.2, shift=0, shear=0))
    assert 8.3 - 0.1 <= (x - 20).min() < 8.8
    assert 11.5 < (x - 20).max() <= 12.1


def test_images_differ_from_one_another_and_seeds_fix_them():
    images = blob(row=14).expand(4, 1, 41, 41)
    first, again = random_affine(images, noise()), random_affine(images, noise())
    assert torch.equal(first, again)
    assert not torch.equal(first, random_affine(images, noise(1)))
    assert not torch.allclose(first[0], first[1], atol=1e-3)
