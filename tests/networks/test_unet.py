import json

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


@pytest.fixture(params=["unet", "unet-group-concat", "mlp"])
def network(request):
    if request.param == "mlp":
        return Mlp((3, 8, 8), width=16, depth=2, classes=4)
    more = dict(norm="group", skips="concat") if "group" in request.param else {}
    return UNet(3, attention=(1,), classes=4, **SMALL, **more)


def test_noise_level_and_class_change_the_answer(network):
    x, level = noise(1, 3, 8, 8), torch.tensor([0.5])
    assert torch.count_nonzero(network(x, level)) == 0
    perturbed(network)
    base = network(x, level, condition([0]))
    for other in (
        network(x, level + 0.1, condition([0])),
        network(x, level, condition([1])),
        network(x, level, None),
        network(x + 0.1, level, condition([0])),
    ):
        assert (other - base).abs().max() > 1e-3


def test_null_is_the_same_as_no_condition(network):
    perturbed(network)
    x, level = noise(3, 3, 8, 8), torch.rand(3)
    assert torch.equal(network(x, level, condition([0, 1, 3], False)), network(x, level, None))


def test_samples_do_not_meet(network):
    perturbed(network).double()
    x, level = noise(4, 3, 8, 8).double(), torch.tensor([0.1, 0.4, 0.7, 1.0])
    ids = [0, 1, 2, 3]
    whole = network(x, level, condition(ids))
    for i in range(4):
        alone = network(x[i : i + 1], level[i : i + 1], condition(ids[i : i + 1]))
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=1e-5, atol=1e-6)


def test_gradient_reaches_every_parameter(network):
    perturbed(network)
    x, level = noise(4, 3, 8, 8), torch.rand(4)
    given = Condition(
        {"class": torch.tensor([0, 1, 2, 3])}, torch.tensor([True, True, False, True])
    )
    network(x, level, given).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert torch.count_nonzero(p.grad), name


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_bfloat16_agrees_with_float32(network, how):
    perturbed(network)
    x, level = noise(4, 3, 8, 8), torch.rand(4)
    want = network(x, level, condition([0, 1, 2, 3]))
    if how == "weights":
        network.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        got = network(x, level, condition([0, 1, 2, 3]))
    assert got.dtype == torch.float32
    assert (got - want).square().mean().sqrt() < 0.03 * want.square().mean().sqrt()
    assert not torch.equal(got, want)


def test_config_rebuilds_the_same_network(network):
    config = json.loads(json.dumps(network.config()))
    again = type(network)(**config)
    assert again.config() == network.config()
    x, level = noise(2, 3, 8, 8), torch.rand(2)
    for name, p in again.state_dict().items():
        assert torch.equal(p, network.state_dict()[name]), name
    again.load_state_dict(perturbed(network).state_dict())
    assert torch.equal(again(x, level), network(x, level))


def test_config_is_a_copy(network):
    network.config()["conditions"]["class"]["count"] = 99
    assert network.config()["conditions"]["class"]["count"] == 4


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone(network):
    state = torch.random.get_rng_state()
    config = network.config()
    other = type(network)(**{**config, "seed": 1})
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    same = type(network)(**config)
    assert torch.equal(network.enter.weight, same.enter.weight)
    assert not torch.equal(network.enter.weight, other.enter.weight)


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


@pytest.mark.parametrize(
    ("x", "level", "given", "says"),
    [
        (torch.zeros(2, 3, 8), torch.rand(2), None, r"\(batch, 3, "),
        (torch.zeros(2, 1, 8, 8), torch.rand(2), None, r"shape \(2, 1, 8, 8\)"),
        (torch.zeros(2, 3, 0, 8), torch.rand(2), None, "shape"),
        (torch.zeros(2, 3, 8, 8).long(), torch.rand(2), None, "int64"),
        (torch.zeros(2, 3, 8, 8), torch.rand(3), None, "one number per sample"),
        (torch.zeros(2, 3, 8, 8), torch.tensor(0.5), None, "one number per sample"),
        (torch.zeros(2, 3, 8, 8), torch.rand(2), condition([0, 1, 2]), "describes 3 samples"),
        (torch.zeros(2, 3, 8, 8), torch.rand(2), condition([0, 4]), "class 4"),
    ],
)
def test_wrong_input(network, x, level, given, says):
    with pytest.raises(InvalidArgument, match=says):
        network(x, level, given)
