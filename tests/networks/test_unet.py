import pytest
import torch

from unnoise.errors import InvalidArgument
from unnoise.fields.condition import Condition
from unnoise.networks import Mlp, UNet

SMALL = dict(widths=(8, 12), blocks=1, embedding=16)


def condition(ids, keep=True):
    return Condition({"class": torch.tensor(ids)}, torch.full((len(ids),), keep))


def perturbed(network, scale=0.2):
    """The network with every weight moved, so that no zero hides what it ends."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * scale * p[0].numel() ** -0.5)
    return network


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("channels", "size"),
    [
        (1, (1,)),
        (2, (7,)),
        (3, (64,)),
        (1, (28, 28)),
        (3, (1, 9)),
        (4, (11, 5)),
        (5, (8, 8)),
        (1, (1, 1, 1)),
        (2, (3, 4, 5)),
    ],
)
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("skips", ["add", "concat"])
def test_any_size(channels, size, patch, skips):
    network = UNet(
        channels,
        len(size),
        widths=(4, 6, 8),
        blocks=(1, 2, 1),
        attention=(2,),
        patch=patch,
        skips=skips,
        classes=3,
    )
    x, level = noise(2, channels, *size), torch.tensor([0.2, 0.9])
    assert torch.equal(network(x, level, condition([0, 2])), torch.zeros_like(x))
    out = perturbed(network)(x, level, condition([0, 2]))
    assert out.shape == x.shape
    assert bool(out.isfinite().all())
    assert out.std() > 0


def test_what_lies_beyond_an_odd_border_is_not_invented():
    network = perturbed(UNet(1, 1, widths=(4, 4, 4), blocks=1))
    x = noise(1, 1, 9)
    alone = network(x, torch.tensor([0.5]))
    assert alone.shape == x.shape
    constant = torch.ones(1, 1, 9)
    for parameter in network.parameters():
        if parameter.ndim == 3:
            parameter.data[..., [0, 2]] = 0  # pointwise: only padding could tell positions apart
    out = network(constant, torch.tensor([0.5]))
    torch.testing.assert_close(out, out[..., :1].expand_as(out))


def test_channels_out():
    network = perturbed(UNet(2, 1, channels_out=5, patch=2, **SMALL))
    assert network(noise(3, 2, 9), torch.rand(3)).shape == (3, 5, 9)


def test_memory_format_of_the_input_does_not_matter():
    network = perturbed(UNet(3, **SMALL))
    x, level = noise(2, 3, 6, 7), torch.rand(2)
    other = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(network(x, level), network(other, level))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(dimensions=4), "dimensions is 4"),
        (dict(skips="ad"), "did you mean 'add'"),
        (dict(norm="batch"), "unknown norm 'batch'"),
        (dict(widths=()), "number of widths"),
        (dict(widths=(8, 0)), "widths is 0"),
        (dict(widths=(8, 8), blocks=(1,)), "2 widths"),
        (dict(blocks=0), "blocks is 0"),
        (dict(attention=(3,)), "levels are 0 to 2"),
        (dict(channels=0), "channels is 0"),
        (dict(channels_out=0), "channels_out is 0"),
        (dict(patch=0), "patch is 0"),
        (dict(seed=-1), "seed is -1"),
    ],
)
def test_wrong_arguments_of_the_unet(change, says):
    with pytest.raises(InvalidArgument, match=says):
        UNet(**{"channels": 1, **change})


def test_wrong_arguments_of_the_mlp():
    for change, says in ((dict(event=()), "dimensions"), (dict(event=(2, 0)), "event is 0")):
        with pytest.raises(InvalidArgument, match=says):
            Mlp(**change)
