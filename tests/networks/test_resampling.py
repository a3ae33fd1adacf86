import pytest
import torch

from unnoise.networks.resampling import double, from_patches, halve, to_patches

SIZES = [(1,), (7,), (8,), (1, 5), (6, 9), (2, 3, 5)]


@pytest.mark.parametrize("size", SIZES)
def test_halving_averages_only_what_is_there(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    got = halve(x)
    want = x
    for axis in range(2, x.ndim):
        pairs = want.split(2, dim=axis)
        want = torch.cat([pair.mean(axis, keepdim=True) for pair in pairs], dim=axis)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("size", SIZES)
def test_doubling_undoes_halving_of_what_is_constant_in_every_cell(size):
    small = torch.randn(2, 3, *(-(-n // 2) for n in size), dtype=torch.float64)
    large = double(small, size)
    assert tuple(large.shape[2:]) == size
    torch.testing.assert_close(halve(large), small)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_come_back(size, patch):
    x = torch.randn(2, 3, *size)
    cells = to_patches(x, patch)
    assert cells.shape == (2, 3 * patch ** len(size), *(-(-n // patch) for n in size))
    assert torch.equal(from_patches(cells, patch, size), x)


def test_a_patch_holds_its_neighbourhood():
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert to_patches(x, 2)[0, :, 1, 2].tolist() == [16.0, 17.0, 22.0, 23.0]


def test_patches_fill_up_with_the_last_element():
    x = torch.arange(5.0).reshape(1, 1, 5)
    assert to_patches(x, 3)[0, :, 1].tolist() == [3.0, 4.0, 4.0]
