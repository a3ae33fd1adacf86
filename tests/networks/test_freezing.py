import pytest
import torch

from tests.networks.test_unet import noise, perturbed
from unnoise.fields.condition import Condition
from unnoise.networks import DiT, Mlp, Network, UNet, frozen, modulation_cache
from unnoise.networks.embeddings import Embedding

NETWORKS = {
    "unet": lambda: UNet(3, widths=(8, 12), blocks=1, attention=(1,), embedding=16, classes=4),
    "unet-group-concat": lambda: UNet(
        3, widths=(8, 12), blocks=1, embedding=16, classes=4, norm="group", skips="concat"
    ),
    "mlp": lambda: Mlp((3, 6, 5), width=16, depth=2, classes=4),
    "dit": lambda: DiT(3, width=16, depth=2, head=8, classes=4),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return perturbed(NETWORKS[request.param]())


def condition(ids, keep=True):
    return Condition({"class": torch.tensor(ids)}, torch.full((len(ids),), keep))


def asked():
    """Levels and conditions as samplers give them: shared or not, in turn, and again."""
    level = torch.tensor(0.3)
    return [
        (level.expand(3), None),
        (level.expand(3), condition([0, 1, 3])),
        (level.expand(3), condition([2, 2, 2])),
        (level.expand(3), condition([2, 2, 2], False)),
        (level.expand(3), Condition({"class": torch.tensor([2, 2, 2])}, torch.arange(3) > 0)),
        (torch.tensor([0.3, 0.3, 0.31]), None),
        (torch.tensor([0.3, 0.3, 0.31]), condition([0, 1, 3])),
        (torch.tensor(0.3000001).expand(3), None),
    ] * 2


def test_a_frozen_copy_answers_as_the_network(network):
    network.double()
    copy, x = frozen(network), noise(3, 3, 6, 5).double()
    for level, given in asked():
        with torch.no_grad():
            wanted = network(x, level.clone().contiguous(), given)
            got = copy(x, level, given)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)  # embeddings are float32
        one = torch.stack([copy(x[i : i + 1], level[i : i + 1], given and given[i : i + 1])[0]
                           for i in range(3)])  # fmt: skip
        torch.testing.assert_close(one, wanted, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_it_is_as_near_as_autocast(network):
    x, level, given = noise(16, 3, 6, 5), torch.rand(16), condition([0, 1, 2, 3] * 4)
    with torch.no_grad():
        wanted = network(x, level, given)
        with torch.autocast("cpu", torch.bfloat16):
            cast = network(x, level, given)
        got = frozen(network, torch.bfloat16)(x, level, given)
    size = wanted.square().mean().sqrt()
    error, usual = ((y - wanted).square().mean().sqrt() / size for y in (got, cast))
    assert got.dtype == torch.float32
    assert 0 < error < max(1.3 * usual, 0.01)


def test_what_is_cast_and_what_is_not(network):
    before = {k: (p.clone(), p.dtype, p.stride()) for k, p in network.named_parameters()}
    copy = frozen(network.train(), torch.bfloat16)
    assert [k for k, _ in copy.named_parameters()] == list(before)
    for name, p in copy.named_parameters():
        stays = {"embed"} if isinstance(network, Mlp) else {"embed", "steer"}
        apart = stays & set(name.split("."))
        assert p.dtype == (torch.float32 if apart else torch.bfloat16), name
        assert not p.requires_grad
        if p.ndim == 4:
            assert p.is_contiguous(memory_format=torch.channels_last)
        own = dict(network.named_parameters())[name]
        assert p.data_ptr() != own.data_ptr()
        assert (own.dtype, own.stride()) == before[name][1:]
        assert torch.equal(own, before[name][0])
        assert own.requires_grad
    assert network.training
    assert not copy.training
    assert network.modulation_cache is None


def test_later_weights_do_not_reach_a_copy_and_do_reach_the_next(network):
    x, level = noise(2, 3, 6, 5), torch.tensor(0.4).expand(2)
    with torch.no_grad():
        copy = frozen(network)
        old = copy(x, level)
        for p in network.parameters():
            p.mul_(1.1)
        assert torch.equal(copy(x, level), old)
        new = frozen(network)(x, level)
        torch.testing.assert_close(new, network(x, level), rtol=1e-5, atol=1e-6)
    assert (new - old).abs().max() > 1e-3


@pytest.mark.parametrize("how", ["in place", "loaded", "replaced"])
def test_a_copy_whose_weights_are_changed_all_the_same_forgets(how):
    network = perturbed(UNet(1, widths=(4,), blocks=1, embedding=8))
    copy, x, level = frozen(network), noise(2, 1, 4, 4), torch.tensor(0.4).expand(2)
    with torch.no_grad():
        old = copy(x, level)
        changed = {k: p * 1.5 for k, p in network.state_dict().items()}
        if how == "in place":
            for name, p in copy.named_parameters():
                p.copy_(changed[name])
        elif how == "loaded":
            copy.load_state_dict(changed)
        else:
            for name, p in copy.named_parameters():
                p.data = changed[name]
        network.load_state_dict(changed)
        wanted = network(x, level)
        torch.testing.assert_close(copy(x, level), wanted, rtol=1e-5, atol=1e-6)
    assert (wanted - old).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_modulation_is_computed_once_for_a_level_and_a_condition(kind):
    copy = frozen(perturbed(NETWORKS[kind]()))
    rows = []
    inner = copy.embed.noise.forward
    copy.embed.noise.forward = lambda level: rows.append(len(level)) or inner(level)
    x = noise(3, 3, 6, 6)
    with torch.no_grad():
        for level, given in asked():
            copy(x, level, given)
    assert rows == [1, 3, 1, 1, 3, 3, 3, 1]


def test_what_is_kept_is_bounded(monkeypatch):
    copy = frozen(UNet(1, widths=(4,), blocks=1, embedding=8))
    x = noise(1, 1, 4, 4)
    one = 4 * 2 * 4  # bytes of gain and shift of 4 channels
    monkeypatch.setattr(modulation_cache, "BYTES", 5 * one)
    for k in range(20):
        copy(x, torch.tensor([k / 20]))
    assert len(copy.modulation_cache.kept) == 5
    assert copy.modulation_cache.bytes == 5 * one


def test_derivatives_pass_through_the_level_of_a_frozen_copy():
    network = perturbed(UNet(1, widths=(4,), blocks=1, embedding=8)).double()
    copy, x = frozen(network), noise(2, 1, 4, 4).double()

    def on_path(net):
        return lambda t: net(x, t.expand(2)).sum()

    t = torch.tensor(0.4)
    with torch.no_grad():
        on_path(copy)(t)  # it is remembered
    for way in (torch.func.grad, torch.func.jacfwd):
        wanted = way(on_path(network))(t)
        assert wanted.abs() > 1e-3
        torch.testing.assert_close(way(on_path(copy))(t), wanted, rtol=1e-4, atol=1e-6)
    level = t.clone().requires_grad_()
    (got,) = torch.autograd.grad(on_path(copy)(level), level)
    torch.testing.assert_close(got, wanted.float(), rtol=1e-4, atol=1e-6)


def test_volumes_in_bfloat16():
    network = perturbed(UNet(1, 3, widths=(4, 6), blocks=1, embedding=8))
    x, level = noise(2, 1, 4, 3, 5), torch.rand(2)
    with torch.no_grad():
        wanted, got = network(x, level), frozen(network, torch.bfloat16)(x, level)
    assert (got - wanted).square().mean().sqrt() < 0.03 * wanted.square().mean().sqrt()


class Steered(Network):
    """Whose modulation is no tuple of tensors."""

    def __init__(self, also=None):
        super().__init__({})
        self.embed, self.also, self.made = Embedding(4, {}), also, 0

    def modulation(self, noise_level, condition):
        self.made += 1
        return {"all": self.embed(noise_level, condition), "also": [self.also]}

    def forward(self, x, noise_level, condition=None):
        return x * self.batch_modulation(noise_level, condition)["all"]


@pytest.mark.parametrize(("also", "made"), [(torch.ones(1), 1), ("a word", 2), (7, 2)])
def test_modulation_of_any_kind_is_kept_where_its_size_is_known(also, made):
    network = Steered(also)
    copy, x, level = frozen(network), noise(2, 4), torch.tensor(0.4).expand(2)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(copy(x, level), network(x, level))
    assert copy.made == made
