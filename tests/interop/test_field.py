"""Diffusers models and configs as fields: what their own schedulers make of the same answer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.exact import F64
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Condition
from unnoise.paths import EDM, Chain, Flow
from unnoise.randomness import Streams

diffusers = pytest.importorskip("diffusers", reason="compares with diffusers")

from unnoise.interop.diffusers import Convention, DiffusersField  # noqa: E402


class Says(nn.Module):
    """A network that answers a fixed nonlinear function, and notes what it was given."""

    def __init__(self, channels: int = 1):
        super().__init__()
        self.channels = channels

    def forward(self, sample, timestep, return_dict=True, **conditions):
        self.given = (sample, timestep, conditions)
        return (torch.cat([(0.7 * sample).sin() + 0.1] * self.channels, dim=1),)


def some(n=3):
    return Streams(2, range(n)).normal(2, 4, 4).double()


CHAINS = {
    "linear": {},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "trained": {"trained_betas": [0.01, 0.1, 0.3], "num_train_timesteps": 3},
    "zero terminal": {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_chain_of_a_config(name):
    """Their table of ᾱ is float32: the chain is the same to its rounding."""
    kind = diffusers.DDPMScheduler if name == "sigmoid" else diffusers.DDIMScheduler
    scheduler = kind(**CHAINS[name])
    convention = Convention.from_config(scheduler.config)
    n = torch.arange(1, len(scheduler.alphas_cumprod) + 1, dtype=F64)
    bar = convention.path.alpha(n / len(n)) ** 2
    torch.testing.assert_close(bar, scheduler.alphas_cumprod.double(), rtol=3e-4, atol=1e-7)
    assert convention.timestep(torch.tensor(1.0)).item() == len(n) - 1
    assert convention.time(0).item() == pytest.approx(1 / len(n))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("clip", [False, True])
def test_ddim_sees_the_same_x0(kind, clip):
    """pred_original_sample of their own step, from the same network."""
    scheduler = diffusers.DDIMScheduler(prediction_type=kind, clip_sample=clip)
    scheduler.set_timesteps(5)
    model, x = Says(), some()
    field = DiffusersField(model, scheduler)
    for number in scheduler.timesteps[1:]:
        t = (number.double() + 1) / 1000
        ours = field(x, t)
        theirs = scheduler.step(model(x, number)[0], number, x).pred_original_sample
        torch.testing.assert_close(ours.x0, theirs, rtol=1e-4, atol=1e-4)
    assert model.given[1] == number
    assert (float(ours.x0.abs().max()) <= 1) == clip


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_edm_preconditioning(kind):
    scheduler = diffusers.EDMEulerScheduler(prediction_type=kind, sigma_max=60.0)
    scheduler.set_timesteps(4)
    model, x = Says(), 10 * some()
    field = DiffusersField(model, scheduler)
    assert field.path == EDM(60.0)
    for k in range(4):
        number, t = scheduler.timesteps[k], scheduler.sigmas[k].double() / 60
        ours = field(x, t)
        shown, given, _ = model.given
        torch.testing.assert_close(given.double(), number.double().expand(3), rtol=1e-5, atol=1e-5)
        their_input = scheduler.scale_model_input(x, number)
        torch.testing.assert_close(shown, their_input, rtol=1e-6, atol=1e-6)
        theirs = scheduler.step(model(their_input, number)[0], number, x).pred_original_sample
        torch.testing.assert_close(ours.x0, theirs, rtol=1e-5, atol=1e-5)


def test_flow_matching_and_its_shift():
    plain = Convention.from_config(diffusers.FlowMatchEulerDiscreteScheduler().config)
    assert (plain.path, plain.predicts, plain.clock) == (Flow(), "velocity", "flow")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    field = DiffusersField(Says(), scheduler)
    x, t = some(), torch.tensor(0.25, dtype=F64)
    said = field(x, t)
    sigma = 3 * 0.25 / (1 + 2 * 0.25)
    assert float(field.path.sigma(t)) == pytest.approx(sigma)
    assert float(field.model.given[1][0]) == pytest.approx(1000 * sigma)
    # the network says noise − data, and x = (1 − σ)·data + σ·noise
    output = (0.7 * x).sin() + 0.1
    torch.testing.assert_close(said.x0, x - sigma * output)
    torch.testing.assert_close(said.eps, x + (1 - sigma) * output)
    dynamic = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).config
    with pytest.raises(InvalidArgument, match="pass mu"):
        Convention.from_config(dynamic)
    moved = Convention.from_config(dynamic, mu=1.15).path
    peer = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    peer.set_timesteps(sigmas=[1.0, 0.5], mu=1.15)
    torch.testing.assert_close(float(moved.sigma(0.5)), float(peer.sigmas[1]), rtol=1e-6, atol=0)


def test_conditions_and_their_null():
    model, x, t = Says(), some(), torch.tensor(0.5, dtype=F64)
    field = DiffusersField(model, diffusers.DDPMScheduler(clip_sample=False), null={"class": 10})
    field(x, t, {"class": torch.tensor([1, 2, 3])})
    assert model.given[2]["class_labels"].tolist() == [1, 2, 3]
    field(x, t)
    assert model.given[2]["class_labels"].tolist() == [10, 10, 10]
    keep = torch.tensor([True, False, True])
    field(x, t, Condition({"class": torch.tensor([1, 2, 3])}, keep))
    assert model.given[2]["class_labels"].tolist() == [1, 10, 3]
    field.conditioned({"text": torch.ones(3, 2, 5)})
    bare = DiffusersField(model, diffusers.DDPMScheduler())
    with pytest.raises(InvalidArgument, match="knows no null"):
        bare(x, t, Condition({"class": torch.tensor([1, 2, 3])}, keep))
    bare(x, t, {"text": torch.ones(3, 2, 5)})
    assert model.given[2]["encoder_hidden_states"].shape == (3, 2, 5)


def test_times_of_each_sample_and_a_learned_variance():
    scheduler = diffusers.DDPMScheduler(clip_sample=False, variance_type="learned_range")
    model, x = Says(channels=2), some()
    field = DiffusersField(model, scheduler)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    said = field(x, t)
    assert model.given[1].tolist() == [99, 499, 899]
    torch.testing.assert_close(said.eps, (0.7 * x).sin() + 0.1)
    plain = DiffusersField(model, diffusers.DDPMScheduler(clip_sample=False))
    with pytest.raises(InvalidArgument, match="shape"):
        plain(x, t)


def test_a_class_conditional_unet():
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8,), norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), layers_per_block=1,
        num_class_embeds=11,
    ).eval()  # fmt: skip
    field, x = DiffusersField(unet, diffusers.DDIMScheduler(), null={"class": 10}), some().float()
    t, labels = torch.tensor(0.5, dtype=F64), torch.tensor([0, 4, 10])
    with torch.no_grad():
        ours = field(x, t, {"class": labels})
        theirs = unet(x, 499, labels).sample
        free = field(x, t)
    scheduler = diffusers.DDIMScheduler()
    scheduler.set_timesteps(1000)
    wanted = scheduler.step(theirs, 499, x).pred_original_sample
    torch.testing.assert_close(ours.x0, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(free.value[2], ours.value[2])
    assert not torch.allclose(free.value[0], ours.value[0])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"beta_schedule": "laplace", "_class_name": "DDPMScheduler"}, "unknown beta_schedule"),
        ({"_class_name": "VQDiffusionScheduler"}, "no beta_schedule"),
        ({"beta_schedule": "linear", "invert_sigmas": True}, "invert_sigmas=False"),
        ({"beta_schedule": "linear", "prediction_type": "eps"}, "unknown prediction_type"),
        (
            {
                "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
                "rescale_betas_zero_snr": True,
            },
            "predict v",
        ),
    ],
)  # fmt: skip
def test_configs_without_an_equal_are_refused(config, says):
    with pytest.raises((Unsupported, InvalidArgument), match=says):
        Convention.from_config(config)


def test_the_chain_is_exact_where_their_table_is_float32():
    convention = Convention.from_config(diffusers.DDPMScheduler(clip_sample=False).config)
    assert convention.path == Chain.linear().as_path()
