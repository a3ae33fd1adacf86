"""A stream's copy of the network: made once, and never one of weights that are no more."""

from copy import copy

import pytest
import torch
from torch import nn

from tests.training.tiny import model_of, tiny
from unnoise.artifacts import kept_copy

CHANGES = {}


def change(way):
    CHANGES[way.__name__] = way
    return way


@change
def in_place(model):
    for p in model.denoiser.parameters():
        p.mul_(1.5)


@change
def where_no_counter_shows_it(model):
    p = next(model.denoiser.network.leave.parameters())
    before = p._version
    p.data.view(-1)[-1].add_(0.5)
    assert p._version == before


@change
def other_storage(model):
    for p in model.denoiser.parameters():
        p.data = p.data * 1.5


@change
def loaded(model):
    state = {name: p * 1.5 for name, p in model.denoiser.state_dict().items()}
    model.denoiser.load_state_dict(state)


@change
def other_parameter(model):
    layer = model.denoiser.network.leave[1]
    layer.weight = nn.Parameter(layer.weight * 1.5)


@change
def other_part(model):
    """Of the same weights."""
    norm = model.denoiser.network.leave[0]

    class Louder(type(norm)):
        def forward(self, h):
            return 2 * super().forward(h)

    model.denoiser.network.leave[0] = louder = copy(norm)
    louder.__class__ = Louder


@change
def other_network(model):
    model.denoiser.network = model_of(tiny(), 0.07).denoiser.network


@change
def other_setting(model):
    model.denoiser.data_std = 0.5


@change
def double(model):
    model.denoiser.double()


@pytest.fixture
def own(request):
    """A model to change."""
    return model_of(tiny())


@pytest.fixture
def copies(monkeypatch):
    """The names of the precisions that copies were made for."""
    made, inner = [], kept_copy.for_sampling

    def counted(denoiser, name, device):
        made.append(name)
        return inner(denoiser, name, device)

    monkeypatch.setattr(kept_copy, "for_sampling", counted)
    return made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_block_of_one_copy_is_that_of_a_copy_of_its_own(own, copies, precision):
    own.precision = precision
    stream = own.stream(11, seed=3, batch=3, condition={"class": [1] * 7 + [4] * 4})
    together = [made.x for made in (*stream, stream.draw(1))]
    assert copies == [precision]
    for block, x in zip((*stream.blocks, 1), together, strict=True):
        alone = own.stream(11, seed=3, batch=3, condition={"class": [1] * 7 + [4] * 4})
        assert torch.equal(alone.draw(block).x, x)
    assert len(copies) == 6


@pytest.mark.parametrize("way", CHANGES)
def test_a_stream_follows_the_weights_at_once(own, copies, way):
    stream = own.stream(4, seed=1, batch=2)
    first = stream.draw(0).x
    with torch.no_grad():
        CHANGES[way](own)
    after = stream.draw(0).x
    assert torch.equal(after, own.stream(4, seed=1, batch=2).draw(0).x)
    assert not torch.equal(after, first)


def test_a_setting_of_the_denoiser_needs_no_copy(own, copies):
    stream = own.stream(4, batch=2)
    stream.draw(0)
    own.denoiser.data_std = 0.5
    stream.draw(0)
    assert len(copies) == 1
    own.precision = "bf16"
    stream.draw(0)
    assert copies == ["fp32", "bf16"]


def test_gradients_after_a_block_that_was_drawn_in_inference_mode(own):
    stream, t = own.stream(4, seed=1, batch=2), torch.tensor(0.5)

    def value(x):
        walked, _ = stream._walked(own.denoiser, own.precision, torch.device("cpu"))
        return walked(x, t).value

    x = torch.full((2, *own.spec.shape), 0.3)
    with torch.inference_mode():
        inside = value(x)
    outside = value(x.requires_grad_())
    outside.square().sum().backward()
    assert torch.equal(outside, inside)
    assert x.grad.abs().sum() > 0


def test_a_network_that_is_walked_as_it_is(own, copies):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x, level, condition=None):
            return x * self.scale

    own.denoiser.network = Own()
    stream = own.stream(4, seed=1, batch=2)
    first = stream.draw(0).x
    own.denoiser.network.scale.data.mul_(0.5)
    assert not torch.equal(stream.draw(0).x, first)
    walked, _ = stream._walked(own.denoiser, "bf16", torch.device("cpu"))
    assert walked is own.denoiser
