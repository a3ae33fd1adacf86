"""Training on a GPU: the numbers of the CPU, no waiting, bad updates left out, exact resumption."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from tests.gpu.runs import ATTENTION, CPU, DIT, MLP, losses_of, training_on
from tests.training.tiny import check_resume, parts_of, tiny, with_objective
from unnoise.data.on_device import OnDevice
from unnoise.networks.compiled import compile_blocks

pytestmark = pytest.mark.gpu
ADAMW = "train.optimizer.kind=adamw"
KINDS = {
    "unet": [ADAMW],
    "accumulated": [ADAMW, "train.accumulate=2", "train.clip=1"],
    "attention": [ADAMW, ATTENTION],
    "dit": [ADAMW, DIT],
    "recomputed": [ADAMW, DIT, "train.recompute=true"],
    "chain": [ADAMW, MLP, "path.kind=chain", "model.predicts=eps"],
    "edm": [
        ADAMW, "path={kind: edm}", "model.predicts=x0", "model.preconditioned=true",
        "objective={weight: edm, drop: 0.1, times: {kind: log_normal}}",
    ],
    "learned variance": [
        ADAMW, MLP, "path.kind=chain", "path.steps=10", "model.predicts=v",
        "model.learned_variance=true", "objective={kind: hybrid, times: {kind: loss_history}}",
    ],
    "sliced": [ADAMW, MLP, "objective.kind=score_matching"],
    "implicit": [ADAMW, MLP, "objective.kind=score_matching", "objective.method=implicit"],
    "coupled": [ADAMW, MLP, "objective.coupling=optimal"],
    "likelihood": [
        ADAMW, MLP, "train.batch=4", "objective.kind=maximum_likelihood", "objective.steps=2",
        "objective.tableau=midpoint", "objective.trace=hutchinson",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_updates_are_those_of_the_cpu(device, kind):
    there, here = (training_on(d, "train.steps=4", *KINDS[kind]) for d in (device, CPU))
    assert (there.deferred, here.deferred) == (True, False)
    assert isinstance(there.source, OnDevice)
    found, wanted = losses_of(there), losses_of(here)
    assert found[0] == pytest.approx(wanted[0], rel=2e-5)
    assert found == pytest.approx(wanted, rel=5e-3)
    data = parts_of(tiny("train.steps=4", *KINDS[kind]))["validation"]
    (loss, t), (loss_here, t_here) = there.held_out(data, 32), here.held_out(data, 32)
    assert torch.equal(t, t_here)
    torch.testing.assert_close(
        loss, loss_here, rtol=2e-2, atol=2e-2 * float(loss_here.abs().mean())
    )


def test_muon_is_that_of_the_cpu_to_bfloat16(device):
    found, wanted = (losses_of(training_on(d, "train.steps=6")) for d in (device, CPU))
    assert found[0] == pytest.approx(wanted[0], rel=2e-5)
    assert found == pytest.approx(wanted, rel=2e-2)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_bitwise_those_of_the_cpu(device, workers):
    option = f"train.workers={workers}"
    there, here = (training_on(d, option) for d in (device, CPU))
    if workers:
        there.source = there.data  # as data too large for the device
    with closing(there.updates()) as updates:
        next(updates)
        batch, noise = there.batch(16, 16)
    wanted, _ = here.batch(16, 16)
    assert batch.x0.device == device
    assert torch.equal(batch.x0.cpu(), wanted.x0)
    assert torch.equal(batch.condition.values["class"].cpu(), wanted.condition.values["class"])
    assert noise.indices == range(16, 32)


def test_bfloat16_learns(device):
    exact = training_on(device, "train.steps=1", "train.precision=fp32")
    training = training_on(device, "train.steps=60", "train.precision=bf16", "train.batch=64")
    losses = losses_of(training)
    first = losses_of(training_on(device, "train.steps=1", "train.precision=bf16"))[0]
    wanted = losses_of(exact)[0]
    assert first != wanted
    assert first == pytest.approx(wanted, rel=2e-2)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    for p in training.denoiser.network.parameters():
        assert p.dtype == torch.float32
        assert bool(torch.isfinite(p).all())
    assert training.guard.skipped == 0


def test_float16_learns(device):
    wide, narrow = (
        training_on(device, "train.steps=60", f"train.precision={name}", "train.batch=64")
        for name in ("fp32", "fp16")
    )
    wanted, found = losses_of(wide), losses_of(narrow)
    assert found[0] == pytest.approx(wanted[0], rel=2e-3)
    assert sum(found[-10:]) == pytest.approx(sum(wanted[-10:]), rel=0.1)
    scale = narrow.leader.optimizers.loss_scale
    assert scale.scale.device == device
    assert narrow.guard.skipped <= 16
    assert narrow.guard.trouble == 0


def test_no_update_synchronises(device):
    """torch raises at every operation that makes the host wait for the device."""
    for overrides in ([], [ADAMW, DIT, "train.precision=bf16"], ["train.precision=fp16"],
                      ["train.averages={}"]):  # fmt: skip
        training = training_on(device, "train.steps=12", "train.clip=1", *overrides)
        with closing(training.updates()) as updates:
            for _ in range(3):
                next(updates)
            torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(4):
                    next(updates)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_the_host_runs_ahead_by_one_update(device):
    training = training_on(device, "train.steps=12", MLP)
    with closing(training.updates()) as updates:
        for _ in range(4):
            next(updates)
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.cuda._sleep(100_000_000)
        torch.cuda.synchronize()
        cycles = int(1e8 * 0.5 / (time.perf_counter() - began))  # half a second
        torch.cuda._sleep(cycles)
        began = time.perf_counter()
        next(updates)  # behind the sleep; the update that it judges is before it
        assert time.perf_counter() - began < 0.3
        next(updates)
        assert time.perf_counter() - began > 0.4


def spoilt(training, at, what):
    """The same training, where a loss, or a gradient, is not finite at update `at`."""
    objective = training.objective

    def changed(model, batch, noise):
        loss = objective(model, batch, noise)
        if training.step + 1 != at:
            return loss
        if what == "loss":
            bad = loss.per_sample.index_fill(0, torch.tensor(5, device=loss.t.device), math.nan)
            return replace(loss, value=loss.value * math.nan, per_sample=bad)
        value = loss.value
        value.register_hook(lambda g: g * math.inf)
        return replace(loss, value=value)

    return with_objective(training, changed)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_bad_update_changes_nothing(device, what, optimizer):
    option = f"train.optimizer.kind={optimizer}"
    training = spoilt(training_on(device, "train.steps=6", "train.clip=1", option), 4, what)
    network, seen = training.denoiser.network, []
    for update in training.updates():
        seen.append((update, [p.detach().clone() for p in network.parameters()]))
    faults = [update.fault for update, _ in seen]
    assert [fault is not None for fault in faults] == [False] * 3 + [True] + [False] * 2
    assert faults[3].kind == what
    assert training.guard.skipped == 1
    assert training.ema.updates == 5
    same = [torch.equal(a, b) for a, b in zip(seen[3][1], seen[2][1], strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(seen[4][1], seen[3][1], strict=True))


@pytest.mark.parametrize(
    "overrides",
    [[], [ADAMW, DIT], [ADAMW, ATTENTION, "train.averages={}"], [MLP, "train.precision=fp16"]],
)
def test_resuming_is_exact(device, tmp_path, overrides):
    check_resume(lambda: training_on(device, "train.steps=6", *overrides), tmp_path, 6, 2, 4)


@pytest.mark.parametrize("network", [ATTENTION, DIT])
def test_compiled_blocks_are_the_eager_ones(device, network, recwarn, tmp_path):
    runs = []
    for compiled in (False, True):
        training = training_on(device, "train.steps=3", ADAMW, network)
        if compiled:
            compile_blocks(training.denoiser.network, tmp_path)
        runs.append(losses_of(training))
    assert runs[1] == pytest.approx(runs[0], rel=5e-3)
    assert not [w for w in recwarn if "cannot be compiled" in str(w.message)]
