"""The U-Net that is chosen for data of a shape: flat and long ones as well as square ones."""

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.networks.test_unet import noise, perturbed
from unnoise.networks import UNet
from unnoise.recipes.choose import SIDES, _unet

SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("shape", "patch", "levels"),
    [
        ((1, 5, 5), 1, 1),
        ((1, 8, 8), 1, 2),
        ((3, 24, 9), 1, 3),
        ((1, 28, 28), 2, 2),
        ((3, 64, 64), 4, 3),
        ((3, 256, 200), 4, 4),
        ((3, 512, 512), 8, 4),
        ((2, 300), 1, 4),
        ((1, 2000), 4, 4),
        ((1, 16000), 16, 4),
        ((1, 2_000_000), 1024, 4),
        ((1, 16, 16, 16), 2, 2),
        ((3, 8, 256), 1, 3),
        ((3, 16, 512), 2, 3),
        ((1, 64, 512), 4, 4),
        ((1, 4, 100), 1, 2),
        ((1, 1, 64), 1, 4),
        ((1, 4, 64, 64), 1, 2),
        ((1, 32, 128, 128), 4, 3),
        ((1, 144, 144, 144), 4, 4),
        ((1, 24, 24, 24), 2, 2),
        ((1, 98304), 64, 4),
    ],
)
def test_cells_keep_the_first_level_small(shape, patch, levels):
    chosen = _unet(shape)
    assert (chosen["patch"], len(chosen["widths"])) == (patch, levels)


@given(SIZES)
def test_a_short_side_is_neither_cut_nor_halved_away(size):
    chosen = _unet((1, *size))
    patch, levels = chosen["patch"], len(chosen["widths"])
    cut = [-(-n // patch) for n in size]
    assert patch == 1 or 4 * min(size) >= SIDES[len(size)] * patch
    assert levels == 1 or all(-(-n // 2 ** (levels - 1)) >= 2 for n in cut if n >= 4)
    assert levels == 1 or max(cut) / 2 ** (levels - 1) >= 3


@given(SIZES)
def test_where_no_side_is_short_the_first_level_is_that_of_a_square_of_as_many_positions(size):
    patch, d = _unet((1, *size))["patch"], len(size)
    middle = max(1, round(math.prod(size) ** (1 / d)))
    near = {_unet((1, *(n,) * d))["patch"] for n in (max(1, middle - 1), middle, middle + 1)}
    assert patch <= max(near)
    assert patch in near or 4 * min(size) < SIDES[d] * 2 * patch  # as large as the side allows


@given(SIZES)
def test_no_more_than_for_the_square_around_it_and_whichever_side_comes_first(size):
    """Which bounds how many parameters there are: the square's."""
    chosen, square = _unet((1, *size)), _unet((1, *(max(size),) * len(size)))
    assert chosen["patch"] <= square["patch"]
    assert len(chosen["widths"]) <= max(len(square["widths"]), math.log2(max(size)) - 1)
    assert all(_unet((1, *order)) == chosen for order in permutations(size))


@pytest.mark.parametrize(
    "shape",
    [(1, 5, 5), (3, 8, 256), (1, 4, 100), (3, 2, 33), (3, 1, 64), (1, 16, 120), (2, 300),
     (1, 4096), (1, 1), (1, 7, 3, 50), (1, 4, 16, 16), (2, 1, 1, 40)],
)  # fmt: skip
def test_what_is_chosen_runs_and_every_weight_learns(shape):
    chosen = _unet(shape)
    widths = [width // 8 for width in chosen["widths"]]
    network = UNet(shape[0], len(shape) - 1, widths=widths, blocks=1, patch=chosen["patch"])
    perturbed(network)
    got = network(noise(2, *shape), torch.tensor([0.2, 0.7]))
    assert got.shape == (2, *shape)
    (got - noise(2, *shape, seed=1)).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name
