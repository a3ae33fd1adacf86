"""Which arithmetic is chosen, what is refused, and what a walk is given."""

import pytest
import torch
from torch import nn

from unnoise.artifacts import Model
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Denoiser
from unnoise.networks import Mlp, Network
from unnoise.networks.embeddings import Embedding
from unnoise.paths import Flow
from unnoise.sampling import InferenceCopy, Precision, find_device, precision, resolve

CPU = torch.device("cpu")


def denoiser():
    return Denoiser(
        Mlp(3, width=8, depth=1), Flow(), "x0", preconditioned=True, data_std=0.7,
        noise_input="log_snr",
    )  # fmt: skip


def test_a_processor_without_bfloat16(monkeypatch, saved):
    monkeypatch.setattr(precision, "_has_bf16", lambda device: False)
    assert resolve("auto", CPU) == Precision("fp32", "cpu has no bfloat16 arithmetic")
    with pytest.raises(Unsupported, match=r"precision bf16 on cpu.*use fp32 or auto"):
        resolve("bf16", CPU)
    with pytest.raises(Unsupported, match="use fp32 or auto"):
        Model.load(saved, "bf16")
    assert Model.load(saved).precision == "fp32"


@pytest.mark.parametrize(("pays", "name"), [(True, "bf16"), (False, "fp32")])
def test_bfloat16_is_chosen_if_it_is_not_far_slower(pays, name, monkeypatch):
    monkeypatch.setattr(precision, "_has_bf16", lambda device: True)
    monkeypatch.setattr(precision, "_bf16_pays", lambda: pays)
    assert resolve("auto", CPU).name == name
    assert resolve("bf16", CPU).name == "bf16"


@pytest.mark.parametrize(("slow", "pays"), [(torch.bfloat16, False), (torch.float32, True)])
def test_the_slower_arithmetic_is_measured(slow, pays, monkeypatch):
    def conv2d(x, weight, padding):
        clock[0] += 2.5 if x.dtype == slow else 1.0

    clock = [0.0]
    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    assert precision._bf16_pays.__wrapped__() is pays


@pytest.mark.parametrize("asked", ["fp8", "float16", "BF16", "", None])
def test_a_precision_that_does_not_exist(asked, saved):
    with pytest.raises(InvalidArgument, match="known: auto, bf16, fp16, fp32"):
        Model.load(saved, asked)


@pytest.mark.parametrize("asked", ["cuda:99", "gpu", ""])
def test_a_device_that_does_not_exist(asked, saved):
    with pytest.raises(InvalidArgument, match=f"device '{asked}' cannot be used here; try auto"):
        find_device(asked)
    with pytest.raises(InvalidArgument, match="cannot be used here"):
        Model.load(saved, "fp32", asked)


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_walk_gets_the_same_denoiser_with_weights_of_its_own(name):
    model = denoiser()
    nn.init.normal_(model.network.leave.weight)
    inference = InferenceCopy.of(model, name)
    copy, context = inference.denoiser, inference.context()
    x, t = torch.randn(4, 3), torch.tensor(0.6)
    with torch.no_grad(), context:
        assert not torch.is_autocast_enabled("cpu")
        got, wanted = copy(x, t), model(x, t)
    assert (got.lens, got.path) == (wanted.lens, wanted.path)
    assert got.value.dtype == torch.float32
    near = dict(rtol=1e-5, atol=1e-6) if name == "fp32" else dict(rtol=0.05, atol=0.05)
    torch.testing.assert_close(got.value, wanted.value, **near)
    dtype = torch.float32 if name == "fp32" else torch.bfloat16
    assert copy.network.enter.weight.dtype == dtype
    assert model.network.enter.weight.dtype == torch.float32


def test_a_denoiser_of_another_kind_is_walked_as_it_is_under_autocast():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.ones(1))

        def forward(self, x, level, condition=None):
            assert torch.is_autocast_enabled("cpu")
            return x

    strange = Denoiser(Strange(), Flow(), "x0")
    inference = InferenceCopy.of(strange, "bf16")
    assert inference.denoiser is strange
    with inference.context():
        strange(torch.ones(2, 3), torch.tensor(0.5))


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize("casts", [False, True])
def test_a_network_that_does_not_cast_keeps_its_weights_dtype(name, casts):
    class Own(Network):
        def __init__(self):
            super().__init__({})
            self.embed, self.layer = Embedding(8, {}), nn.Linear(3, 3)

        def forward(self, x, level, condition=None):
            level = self.embed(level, condition).mean()
            return self.layer(x.to(self.layer.weight.dtype) if casts else x) * level

    Own.casts = casts
    model = Denoiser(Own(), Flow(), "x0")
    inference = InferenceCopy.of(model, name)
    copy, context = inference.denoiser, inference.context()
    x, t = torch.randn(4, 3), torch.tensor(0.6)
    with torch.no_grad(), context:
        got = copy(x, t).value.float()
    with torch.no_grad():
        torch.testing.assert_close(got, model(x, t).value, rtol=0.05, atol=0.05)
    narrow = copy.network.layer.weight.dtype == torch.bfloat16
    assert narrow is (casts and name == "bf16")
