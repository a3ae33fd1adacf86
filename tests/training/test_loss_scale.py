"""float16 in training: the loss scale, its overflows, and that a pause changes nothing.

float16 is for GPUs; here its arithmetic runs on the CPU, where torch has it too.
"""

from __future__ import annotations

import pytest
import torch

from tests.training.tiny import (
    assert_same,
    check_resume,
    everything,
    run_steps,
    tiny,
    training_of,
    with_objective,
)  # fmt: skip
from unnoise.errors import NonFinite, Unsupported
from unnoise.sampling.precision import Precision, resolve
from unnoise.training import loop, loss_scale
from unnoise.training.loss_scale import FIRST, LossScale

MLP = "network={kind: mlp, width: 16, depth: 1}"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(loop, "resolve", lambda asked, device: Precision(asked, "for a test"))


def made(*overrides, precision="fp16", steps=6):
    return training_of(tiny(f"train.steps={steps}", f"train.precision={precision}", *overrides))


def scale_of(training):
    found = training.leader.optimizers.loss_scale
    return None if found is None else float(found.scale)


def spoilt(training, bad):
    """The same training, where gradients are infinite at the updates for which bad(step)."""
    objective = training.objective

    def changed(model, batch, noise):
        loss = objective(model, batch, noise)
        if bad(training.step + 1):
            loss.value.register_hook(lambda g: g * torch.inf)
        return loss

    return with_objective(training, changed)


def test_float16_is_refused_on_a_cpu():
    with pytest.raises(Unsupported, match="float16 is for GPUs; use bf16, fp32 or auto"):
        resolve("fp16", CPU)
    assert resolve("fp16", torch.device("cuda")).name == "fp16"


def test_a_scale_changes_no_gradient():
    """Powers of two: what is multiplied and divided by them is the same to the last bit."""
    plain, scaled = made(MLP, precision="fp32"), made(MLP, precision="fp32")
    scaled.leader.optimizers.loss_scale = LossScale(CPU)
    assert run_steps(plain, 6) == run_steps(scaled, 6)
    a, b = everything(plain), everything(scaled)
    assert_same(a, {name: b[name] for name in a})
    assert scale_of(scaled) == FIRST


def test_it_learns_as_in_float32():
    wide, narrow = (run_steps(made(MLP, precision=p, steps=40), 40) for p in ("fp32", "fp16"))
    assert wide != narrow
    assert narrow[0] == pytest.approx(wide[0], rel=2e-3)
    assert sum(narrow[-10:]) == pytest.approx(sum(wide[-10:]), rel=5e-2)


@pytest.mark.parametrize("deferred", [False, True])
def test_an_overflow_halves_the_scale_and_changes_nothing_else(deferred):
    training = spoilt(made(MLP), lambda step: step == 3)
    training.deferred, seen = deferred, []
    for update in training.updates():
        weights = [p.detach().clone() for p in training.leader.parameters]
        seen.append((update.fault, weights, scale_of(training), training.ema.updates))
    faults, weights, scales, averaged = zip(*seen, strict=True)
    assert [fault is not None for fault in faults] == [False, False, True, False, False, False]
    assert faults[2].kind == "overflow"
    assert "loss scale is halved" in str(faults[2])
    assert all(torch.equal(a, b) for a, b in zip(weights[2], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[3], weights[2], strict=True))
    assert scales == (FIRST, FIRST, FIRST / 2, FIRST / 2, FIRST / 2, FIRST / 2)
    assert averaged == (1, 2, 2, 3, 4, 5)
    assert (training.guard.skipped, training.guard.trouble, training.guard.faults) == (1, 0, [])


def test_it_grows_again(monkeypatch):
    monkeypatch.setattr(loss_scale, "INTERVAL", 2)
    training = spoilt(made(MLP), lambda step: step == 1)
    run_steps(training, 5)
    assert scale_of(training) == 2 * FIRST


def test_overflows_without_end_are_trouble():
    """Sixteen halvings bring the scale to 1; what is infinite then is so without a scale."""
    training = spoilt(made(MLP, steps=40), lambda step: True)
    with pytest.raises(NonFinite, match="is not finite at update"):
        run_steps(training, 40)
    assert training.step == 16 + training.config.guard.skips
    assert scale_of(training) <= 1


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_pause_changes_nothing(tmp_path, optimizer):
    def make():
        return spoilt(made(MLP, f"train.optimizer.kind={optimizer}"), lambda step: step in (1, 3))

    straight, resumed = check_resume(make, tmp_path, 6, 2, 4)
    assert scale_of(straight) == scale_of(resumed) == FIRST / 4
