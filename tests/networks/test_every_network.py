"""What every network keeps: how it takes level, condition and sample, its config, its seed."""

import json

import pytest
import torch

from tests.networks.test_unet import condition, noise, perturbed
from unnoise.errors import InvalidArgument
from unnoise.fields.condition import Condition
from unnoise.networks import DiT, Mlp, UNet

EVENT = (3, 8, 6)
UNET = dict(widths=(8, 12), blocks=1, embedding=16, attention=(1,), classes=4)
DIT = dict(width=24, depth=2, head=12, embedding=16, classes=4)
NETWORKS = {
    "unet": lambda: UNet(3, **UNET),
    "unet-group-concat": lambda: UNet(3, **UNET, norm="group", skips="concat"),
    "mlp": lambda: Mlp(EVENT, width=16, depth=2, classes=4),
    "dit": lambda: DiT(3, **DIT),
    "dit-learned": lambda: DiT(3, **DIT, positions="learned", size=EVENT[1:]),
}


@pytest.fixture(params=NETWORKS)
def fresh(request):
    """A network as it is made, whose answer is zero."""
    return NETWORKS[request.param]()


@pytest.fixture
def network(fresh):
    """One whose every weight was moved."""
    return perturbed(fresh, 0.5 if isinstance(fresh, DiT) else 0.2)


def test_a_new_network_answers_zero_whatever_it_is_given(fresh):
    x, level = noise(2, *EVENT), torch.tensor([0.2, 0.9])
    for given in (None, condition([0, 3])):
        assert torch.count_nonzero(fresh(x, level, given)) == 0


def test_noise_level_and_class_change_the_answer(network):
    x, level = noise(1, *EVENT), torch.tensor([0.5])
    base = network(x, level, condition([0]))
    for other in (
        network(x, level + 0.1, condition([0])),
        network(x, level, condition([1])),
        network(x, level, None),
        network(x + 0.1, level, condition([0])),
    ):
        assert (other - base).abs().max() > 1e-3


def test_null_is_the_same_as_no_condition(network):
    x, level = noise(3, *EVENT), torch.rand(3)
    assert torch.equal(network(x, level, condition([0, 1, 3], False)), network(x, level, None))


def test_samples_do_not_meet(network):
    network.double()
    x, level = noise(4, *EVENT).double(), torch.tensor([0.1, 0.4, 0.7, 1.0])
    ids = [0, 1, 2, 3]
    whole = network(x, level, condition(ids))
    for i in range(4):
        alone = network(x[i : i + 1], level[i : i + 1], condition(ids[i : i + 1]))
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=1e-5, atol=1e-6)


def test_gradient_reaches_every_parameter(network):
    x, level = noise(4, *EVENT), torch.rand(4)
    given = Condition(
        {"class": torch.tensor([0, 1, 2, 3])}, torch.tensor([True, True, False, True])
    )
    network(x, level, given).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert torch.count_nonzero(p.grad), name


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_bfloat16_agrees_with_float32(network, how):
    x, level = noise(4, *EVENT), torch.rand(4)
    want = network(x, level, condition([0, 1, 2, 3]))
    if how == "weights":
        network.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        got = network(x, level, condition([0, 1, 2, 3]))
    assert got.dtype == torch.float32
    assert (got - want).square().mean().sqrt() < 0.03 * want.square().mean().sqrt()
    assert not torch.equal(got, want)


def test_config_rebuilds_the_same_network(fresh):
    config = json.loads(json.dumps(fresh.config()))
    again = type(fresh)(**config)
    assert again.config() == fresh.config()
    for name, p in again.state_dict().items():
        assert torch.equal(p, fresh.state_dict()[name]), name
    network, x, level = perturbed(fresh), noise(2, *EVENT), torch.rand(2)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x, level), network(x, level))


def test_config_is_a_copy(network):
    network.config()["conditions"]["class"]["count"] = 99
    assert network.config()["conditions"]["class"]["count"] == 4


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone(fresh):
    state = torch.random.get_rng_state()
    config = fresh.config()
    other = type(fresh)(**{**config, "seed": 1})
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    same = type(fresh)(**config)
    assert torch.equal(fresh.enter.weight, same.enter.weight)
    assert not torch.equal(fresh.enter.weight, other.enter.weight)


@pytest.mark.parametrize(
    ("x", "level", "given", "says"),
    [
        (torch.zeros(2, 3, 8), torch.rand(2), None, r"\(batch, 3, "),
        (torch.zeros(2, 1, 8, 6), torch.rand(2), None, r"shape \(2, 1, 8, 6\)"),
        (torch.zeros(2, 3, 0, 6), torch.rand(2), None, "shape"),
        (torch.zeros(2, *EVENT).long(), torch.rand(2), None, "int64"),
        (torch.zeros(2, *EVENT), torch.rand(3), None, "one number per sample"),
        (torch.zeros(2, *EVENT), torch.tensor(0.5), None, "one number per sample"),
        (torch.zeros(2, *EVENT), torch.rand(2), condition([0, 1, 2]), "describes 3 samples"),
        (torch.zeros(2, *EVENT), torch.rand(2), condition([0, 4]), "class 4"),
    ],
)
def test_wrong_input(network, x, level, given, says):
    with pytest.raises(InvalidArgument, match=says):
        network(x, level, given)
