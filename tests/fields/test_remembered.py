"""What fields keep from call to call changes no number, and is forgotten when it must be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.exact import F64
from unnoise.fields import Condition, Denoiser, Field, Prediction
from unnoise.fields.denoiser import KEPT
from unnoise.guidance import classifier_free
from unnoise.paths import EDM, Chain, Cosine, Flow, VPLinear

PATHS = [VPLinear(), Cosine(), Flow(), EDM(), Chain.linear().as_path()]


class Told(nn.Module):
    """Answers from its input, its level and its one weight, and remembers what it was told."""

    def __init__(self, weight=0.3, dtype=torch.float32):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=dtype))

    def forward(self, x, noise_level, condition):
        self.told, self.shown = noise_level, x
        level = noise_level.reshape(-1, *(1,) * (x.ndim - 1)).to(x.dtype)
        return torch.sin(3 * x + level) * self.weight


def state(n: int = 3, dtype=torch.float32) -> torch.Tensor:
    return torch.linspace(-2, 2, 4 * n, dtype=dtype).reshape(n, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("noise_input", ["t", "log_snr"])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_one_time_for_all_is_the_same_as_a_time_each(path, preconditioned, noise_input, dtype):
    """Bitwise, asked twice, at times of either precision: one time each is never remembered."""
    model = Denoiser(Told(), path, "v", preconditioned, 0.7, noise_input)
    x = state(dtype=dtype)
    with torch.no_grad():
        for precision in (torch.float64, torch.float32):
            for time in (0.9, 0.3, 0.1, 0.3):  # 0.1 and 0.3 are not what they are in float32
                t = torch.tensor(time, dtype=precision)
                once, again, each = model(x, t), model(x, t), model(x, t.expand(3))
                assert torch.equal(once.value, each.value)
                assert torch.equal(again.value, each.value)
                assert torch.equal(model.network.told, t.expand(3).float()) or noise_input != "t"
                assert once.t is t


def test_another_setting_batch_or_time_is_not_taken_for_the_last():
    model, t = Denoiser(Told(), VPLinear(), "v", True), torch.tensor(0.4, dtype=F64)
    with torch.no_grad():
        for change in ({"path": Flow()}, {"data_std": 0.5}, {"predicts": "x0"},
                       {"noise_input": "log_snr"}, {"preconditioned": False}):  # fmt: skip
            model(state(), t)
            for name, value in change.items():
                setattr(model, name, value)
            for x in (state(), state(5), state(3, F64)):
                for time in (0.4, 0.6):
                    t = torch.tensor(time, dtype=F64)
                    assert torch.equal(model(x, t).value, model(x, t.expand(len(x))).value)


def test_what_is_remembered_has_an_end():
    model = Denoiser(Told(), VPLinear(), "v")
    for time in torch.linspace(0.1, 0.9, KEPT + 10, dtype=F64):
        model._coefficients(state(1), time)
    assert len(model._kept) <= KEPT


def test_the_networks_dtype_is_followed():
    model, t = Denoiser(Told(), VPLinear(), "v"), torch.tensor(0.4, dtype=F64)

    def shown() -> torch.dtype:
        model(state(), t)
        return model.network.shown.dtype

    assert shown() == torch.float32
    model.to(torch.bfloat16)
    assert shown() == torch.bfloat16
    model.network.load_state_dict({"weight": torch.tensor(0.2, dtype=F64)}, assign=True)
    assert shown() == torch.float64
    model.network = Told()
    assert shown() == torch.float32
    swapped = {"network.weight": torch.tensor(0.2, dtype=F64)}
    torch.func.functional_call(model, swapped, (state(), t))
    assert model.network.shown.dtype == torch.float64
    model.network = nn.Module()  # without a weight: the state's own
    model.network.forward = lambda x, level, condition: x
    assert model(state(dtype=F64), t).value.dtype == F64


def test_derivatives_in_the_time_are_not_cut():
    model = Denoiser(Told(dtype=F64), VPLinear(), "v", True, noise_input="log_snr")
    x, at = state(dtype=F64), 0.4
    value = lambda t: model(x, t).value.sum()  # noqa: E731
    t = torch.tensor(at, dtype=F64)
    with torch.no_grad():
        value(t)  # remembered
        slope = (value(t + 1e-3) - value(t - 1e-3)) / 2e-3  # the level is float32
    by_hand = t.clone().requires_grad_()
    found = torch.autograd.grad(value(by_hand), by_hand)[0]
    torch.testing.assert_close(found, slope, rtol=1e-2, atol=0)
    _, tangent = torch.func.jvp(value, (t,), (torch.ones_like(t),))
    torch.testing.assert_close(tangent.detach(), found, rtol=1e-5, atol=0)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(t, torch.ones_like(t))
        tangent = torch.autograd.forward_ad.unpack_dual(value(dual)).tangent
    torch.testing.assert_close(tangent.detach(), found, rtol=1e-5, atol=0)
    times = torch.tensor([at, 0.7], dtype=F64)
    many = torch.func.vmap(value)(times)
    torch.testing.assert_close(many, torch.stack([value(t) for t in times]))


def test_remembered_in_inference_mode_used_with_gradients():
    model, t = Denoiser(Told(), VPLinear(), "v", True), torch.tensor(0.4, dtype=F64)
    with torch.inference_mode():
        first = model(state(), torch.tensor(0.4, dtype=F64)).value
    x = state().requires_grad_()
    model(x, t).value.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert torch.equal(first, model(state(), t).value.detach())


def test_a_copy_remembers_nothing_of_its_own_network():
    model, t = Denoiser(Told(), VPLinear(), "v"), torch.tensor(0.4, dtype=F64)
    model(state(), t)
    twin = copy.deepcopy(model)
    assert not twin._kept
    assert twin._first is None
    twin.to(torch.bfloat16)
    twin(state(), t)
    model(state(), t)
    assert twin.network.shown.dtype == torch.bfloat16
    assert model.network.shown.dtype == torch.float32


class Answers(Field):
    """Says the condition's number, 0 where it is dropped."""

    path = VPLinear()

    def __call__(self, x_t, t, condition=None):
        condition = Condition.of(condition, len(x_t))
        known = condition.values["class"] * condition.keep["class"]
        return Prediction(x_t, t, self.path, "v", known[:, None].to(x_t.dtype).expand_as(x_t))


def test_guidance_sees_every_change_of_the_condition():
    field, t = classifier_free(Answers(), 3.0), torch.tensor(0.5, dtype=F64)
    labels = torch.tensor([1, 2, 3])
    condition = Condition({"class": labels}, torch.ones(3, dtype=torch.bool))

    def said(given) -> list[float]:
        return field(state(), t, given).value[:, 0].tolist()

    assert said(condition) == [3.0, 6.0, 9.0]
    assert said(condition) == [3.0, 6.0, 9.0]
    labels[0] = 5  # in place, in the condition given before
    assert said(condition) == [15.0, 6.0, 9.0]
    condition.keep["class"][1] = False
    assert said(condition) == [15.0, 0.0, 9.0]
    assert said(Condition({"class": torch.ones(3)}, torch.ones(3, dtype=torch.bool))) == [3.0] * 3
    with torch.inference_mode():
        inside = Condition({"class": torch.ones(3)}, torch.ones(3, dtype=torch.bool))
        assert said(inside) == [3.0] * 3
        inside.values["class"][0] = 2
        assert said(inside) == [6.0, 3.0, 3.0]


def test_a_bound_mapping_serves_any_batch():
    labels = torch.tensor([4])
    field, t = classifier_free(Answers(), 2.0).conditioned({"class": labels}), torch.tensor(0.5)
    for n in (2, 3, 2, 1):
        assert field(state(n), t).value[:, 0].tolist() == [8.0] * n
    labels[0] = 1  # the tensor given is the one that is looked at
    assert field(state(2), t).value[:, 0].tolist() == [2.0] * 2


def test_what_takes_a_values_place_in_a_condition_is_seen():
    t = torch.tensor(0.5, dtype=F64)
    mapping = {"class": torch.tensor([1, 2, 3])}
    condition = Condition.of(mapping, 3)
    bound, asked = (
        Answers().conditioned(mapping),
        classifier_free(Answers(), 1.5).conditioned(condition),
    )

    def said(field) -> list[float]:
        return field(state(), t).value[:, 0].tolist()

    assert said(bound) == [1.0, 2.0, 3.0]
    assert said(asked) == [1.5, 3.0, 4.5]
    condition.values["class"] = torch.tensor([4, 2, 2])
    assert said(asked) == [6.0, 3.0, 3.0]
    for value in (torch.tensor([4, 5, 6]), [4, 5, 6]):
        mapping["class"] = value
        assert said(bound) == [4.0, 5.0, 6.0]
    mapping["class"][0] = 7  # of the list
    assert said(bound) == [7.0, 5.0, 6.0]
    mapping["class"] = 8
    assert said(bound) == [8.0] * 3
    mapping["class"] = 9
    assert said(bound) == [9.0] * 3


class Learned(Field):
    """Says x_t times a weight times the condition: backward needs the condition again."""

    path = VPLinear()

    def __init__(self):
        self.weight = torch.ones(1, requires_grad=True)

    def __call__(self, x_t, t, condition=None):
        style = Condition.of(condition, len(x_t)).values["style"]
        return Prediction(x_t, t, self.path, "v", x_t * self.weight * style)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("bound", [dict, lambda given: Condition.of(given, 3)])
@pytest.mark.parametrize("before", [torch.inference_mode, torch.no_grad])
def test_gradients_reach_a_condition_that_was_used_without(before, bound, scale):
    """To a condition that is learned, and through one that is not."""
    t = torch.tensor(0.5, dtype=F64)
    for learned in (False, True):
        style, field = torch.ones(3, 1, requires_grad=learned), Learned()
        asked = (classifier_free(field, scale) if scale != 1 else field).conditioned(
            bound({"style": style})
        )
        with before():
            asked(state(), t)
        asked(state(), t).value.sum().backward()
        assert bool(field.weight.grad.isfinite().all())
        if learned:
            torch.testing.assert_close(style.grad, state().sum(1, keepdim=True))


def test_a_condition_on_the_device_already_is_itself():
    condition = Condition({"class": torch.ones(3)}, torch.ones(3, dtype=torch.bool))
    assert condition.to("cpu") is condition
    assert condition.to("meta").values["class"].device.type == "meta"
