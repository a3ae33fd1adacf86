"""The copy that samples are drawn with: made once, unchanged by what becomes of the model."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import nn

from tests.training.tiny import model_of, tiny
from unnoise.sampling import InferenceCopy


@pytest.fixture
def copies(monkeypatch):
    """The precisions that copies were made for."""
    made, inner = [], InferenceCopy.of.__func__

    def counted(cls, denoiser, precision):
        made.append(precision)
        return inner(cls, denoiser, precision)

    monkeypatch.setattr(InferenceCopy, "of", classmethod(counted))
    return made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_copy_serves_every_call_and_draws_what_a_fresh_one_draws(copies, precision):
    model = replace(model_of(tiny()), precision=precision)
    stream = model.stream(11, seed=3, batch=3, condition={"class": [1] * 7 + [4] * 4})
    together = [made.x for made in (*stream, stream.draw(1))]
    model.sample(2, steps=4)
    assert copies == [precision]
    for block, x in zip((*stream.blocks, 1), together, strict=True):
        alone = replace(model).stream(11, seed=3, batch=3, condition={"class": [1] * 7 + [4] * 4})
        assert torch.equal(alone.draw(block).x, x)
    assert len(copies) == 6


def test_a_model_is_what_it_was_when_it_first_sampled():
    model = model_of(tiny())
    before = model.sample(3, seed=1).x
    for p in model.denoiser.parameters():
        p.data.mul_(1.5)
    assert torch.equal(model.sample(3, seed=1).x, before)
    assert not torch.equal(replace(model).sample(3, seed=1).x, before)
    for name, value in (("precision", "bf16"), ("recipe", tiny("sample.steps=2"))):
        with pytest.raises(FrozenInstanceError):
            setattr(model, name, value)


def test_gradients_after_a_block_that_was_drawn_in_inference_mode():
    """What the copy stores of a call serves later calls, whatever mode either is in."""
    model, t = model_of(tiny()), torch.tensor(0.5)

    def value(x):
        return model.facts.inference.denoiser(x, t).value

    x = torch.full((2, *model.spec.shape), 0.3)
    with torch.inference_mode():
        inside = value(x)
    outside = value(x.requires_grad_())
    outside.square().sum().backward()
    assert torch.equal(outside, inside)
    assert x.grad.abs().sum() > 0


def test_a_network_of_another_kind_is_evaluated_itself():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x, level, condition=None):
            return x * self.scale

    model = model_of(tiny())
    model.denoiser.network = Own()
    assert model.facts.inference.denoiser is model.denoiser
    first = model.sample(2, seed=1).x
    model.denoiser.network.scale.data.mul_(0.5)
    assert not torch.equal(model.sample(2, seed=1).x, first)
