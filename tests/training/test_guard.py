"""The guard: what is skipped, what is remembered, when a run is broken, and why it says it was."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tests.training.processes import at_once
from tests.training.tiny import (
    assert_same,
    everything,
    run_steps,
    tiny,
    training_of,
    with_objective,
)
from unnoise.errors import ArtifactError, NonFinite, RecipeError
from unnoise.objectives import LossHistory
from unnoise.recipes import load_recipe
from unnoise.recipes.train_section import GuardConfig
from unnoise.training import Checkpoints, Guard
from unnoise.training.guard import Fault

MLP = "network={kind: mlp, width: 16, depth: 1}"


def state_of(training):
    """Every tensor of its state but the rates, which are set anew before each update."""
    return {k: v for k, v in everything(training).items() if not k.startswith("rate.")}


def poisoned(training, positions):
    """The same training, in whose stream of samples those at `positions` are NaN."""
    batch = training.batch

    def spoil(counter, size):
        found, noise = batch(counter, size)
        for at in positions:
            if counter <= at < counter + size:
                found.x0[at - counter].flatten()[3] = float("nan")
        return found, noise

    training.batch = spoil
    return training


def drive(training, count):
    """`count` updates."""
    updates = training.updates()
    return [next(updates) for _ in range(count)]


@pytest.mark.parametrize("parts", [1, 4])
def test_a_sample_that_is_no_number_costs_one_update_and_is_named(parts):
    recipe = tiny(MLP, "train.steps=20", f"train.accumulate={parts}")
    training = poisoned(training_of(recipe), [2 * 16 + 13])
    drive(training, 2)
    before, averaged = state_of(training), training.ema.updates
    (update,) = drive(training, 1)
    assert_same(state_of(training), before)
    assert training.ema.updates == averaged
    assert (training.step, training.seen) == (3, 48)  # the counters go on
    fault = update.fault
    assert (fault.kind, fault.step, fault.skipped, fault.every) == ("loss", 3, True, False)
    assert fault.row == int(training.data.order(0, 45, 1)[0])
    assert fault.t == float(update.t[13])
    assert not torch.isfinite(update.per_sample[13])
    assert "update 3" in str(fault)
    assert f"sample {fault.row}, t = {fault.t:.4f}" in str(fault)
    (update,) = drive(training, 1)
    assert update.fault is None
    assert training.guard.skipped == 1
    changed = state_of(training)
    assert any(not torch.equal(changed[name], before[name]) for name in before)


def test_what_follows_a_skip_depends_on_no_update_that_was_not_made():
    recipe = tiny(MLP, "train.steps=20")
    training = poisoned(training_of(recipe), [1])
    drive(training, 4)
    other = training_of(recipe)
    other.step, other.seen = 1, 16  # the first update was never asked for
    drive(other, 3)
    assert_same(state_of(training), state_of(other))


def test_a_gradient_at_fault_is_named_by_its_tensor():
    training = training_of(tiny(MLP, "train.steps=20"))
    name, weight = list(training.denoiser.network.named_parameters())[2]
    drive(training, 1)
    before = state_of(training)
    hook = weight.register_hook(lambda g: g / 0)
    (update,) = drive(training, 1)
    hook.remove()
    assert (update.fault.kind, update.fault.tensor, update.fault.row) == ("gradient", name, None)
    assert name in str(update.fault)
    assert_same(state_of(training), before)
    assert drive(training, 1)[0].fault is None


def test_an_infinite_loss_with_a_finite_gradient_is_skipped_too():
    training = training_of(tiny(MLP, "train.steps=20"))
    objective = training.objective

    def infinite(model, batch, noise):
        loss = objective(model, batch, noise)
        spoiled = loss.per_sample.clone()
        spoiled[5] = float("inf")
        return replace(loss, per_sample=spoiled)

    with_objective(training, infinite)
    before = state_of(training)
    (update,) = drive(training, 1)
    assert float(update.gradient_norm) < float("inf")
    assert update.fault.row == int(training.data.order(0, 5, 1)[0])
    assert_same(state_of(training), before)


def test_a_history_of_losses_takes_in_no_loss_that_is_not_finite():
    history = LossHistory(keep=2)
    history.probabilities(2)
    for _ in range(2):
        history.note(torch.tensor([1, 2]), torch.tensor([1.0, 3.0]))
    clean = history.probabilities(2)
    assert not torch.equal(clean, torch.full((2,), 0.5).double())
    history.note(torch.tensor([1, 2]), torch.tensor([float("nan"), float("inf")]))
    assert torch.equal(history.probabilities(2), clean)


@pytest.mark.parametrize("went_back", [False, True])
def test_resuming_agrees_bit_for_bit_with_skips_and_lower_rates_behind(tmp_path, went_back):
    recipe = tiny(MLP, "train.steps=20", "train.guard.lower=0.5")
    bad = [1, 35, 36, 120]

    def begun():
        training = poisoned(training_of(recipe), bad)
        drive(training, 2)
        if went_back:
            training.roll_back(Checkpoints(tmp_path / "first").load()[0])
            assert training.guard.factor == 0.5
        drive(training, 3)
        return training

    first = training_of(recipe)
    Checkpoints(tmp_path / "first").save(first.state(), {})
    straight = begun()
    Checkpoints(tmp_path / "a").save(straight.state(), {})
    told = drive(straight, 4)
    resumed = poisoned(training_of(recipe), bad)
    resumed.load_state(Checkpoints(tmp_path / "a").load()[0])
    again = drive(resumed, 4)
    assert_same(state_of(straight), state_of(resumed))
    assert straight.guard.state() == resumed.guard.state()
    assert [u.rate for u in told] == [u.rate for u in again]
    assert resumed.guard.skipped == 3


def test_going_back_restores_the_state_and_lowers_the_rate():
    recipe = tiny(MLP, "train.steps=20", "train.guard.lower=0.25", "train.schedule=constant")
    training = training_of(recipe)
    drive(training, 2)
    kept = deepcopy(training.state())
    held = state_of(training)
    higher = drive(training, 3)
    for factor in (0.25, 0.0625):
        training.roll_back(kept)
        assert_same(state_of(training), held)
        assert (training.step, training.seen) == (2, 32)
        lower = drive(training, 3)
        assert [u.rate for u in lower] == [factor * u.rate for u in higher]
        assert [torch.equal(a.t, b.t) for a, b in zip(lower, higher, strict=True)] == [True] * 3
    assert training.guard.rollbacks == 2
    assert training.guard.back == 2


def test_a_run_is_broken_when_more_than_half_of_its_latest_updates_are():
    def after(pattern):
        guard = Guard(GuardConfig(skips=4))
        for i, bad in enumerate(pattern):
            guard.take(Fault(i, "gradient", tensor="w") if bad == "x" else None)
        return guard

    assert after("xxxx").broken
    assert after("xxx.xx").broken
    assert not after("xxx").broken
    assert not after("x." * 50).broken
    assert not after("xxx....." * 9).broken
    assert after("xx." * 9).broken
    assert after("x..").steady
    assert not after("x").steady


def test_a_broken_run_goes_no_further_unless_it_goes_back():
    training = training_of(tiny(MLP, "train.steps=20", "train.guard.skips=3"))
    poisoned(training, range(16, 10_000))
    updates = training.updates()
    found = [next(updates) for _ in range(4)]
    assert [u.fault is None for u in found] == [True, False, False, False]
    assert training.guard.broken
    with pytest.raises(NonFinite, match="update 4"):
        next(updates)


def test_one_sample_in_every_fault_is_the_diagnosis():
    guard = Guard(GuardConfig(skips=3))
    for step in (4, 9, 14):
        guard.take(Fault(step, "loss", row=17, t=0.2))
    with pytest.raises(NonFinite, match=r"Sample 17 .*`unnoise data check`"):
        guard.check()


@pytest.mark.parametrize(
    ("faults", "precision", "words"),
    [
        ([Fault(i, "explosion") for i in range(3)], "fp32", "rate is too high.*optimizer.rate"),
        ([Fault(i, "loss", i, 0.5, every=True) for i in range(3)], "fp32", "rate is too high"),
        ([Fault(i, "loss", i, 0.5) for i in range(3)], "bf16", "train.precision=fp32"),
        ([Fault(i, "gradient", tensor="a.b") for i in range(3)], "fp32", "'a.b'.*data check"),
    ],
)
def test_other_diagnoses(faults, precision, words):
    guard = Guard(GuardConfig(skips=3))
    for fault in faults:
        guard.take(fault)
    with pytest.raises(NonFinite, match=words):
        guard.check(precision)


def test_a_gradient_that_grew_before_is_the_diagnosis():
    guard = Guard(GuardConfig(skips=2))
    for size in [1.0] * 50 + [1e3] * 5:
        assert guard.judge("denoiser", torch.tensor(1.0), torch.tensor(size), 1.0) is None
    for step in (1, 2):
        guard.take(Fault(step, "gradient", tensor="w"))
    with pytest.raises(NonFinite, match="rate is too high"):
        guard.check()


@pytest.mark.parametrize("rate", ["1e9", "1e4", "1e30"])
def test_a_rate_that_explodes_is_caught_soon_even_where_the_loss_stays_finite(rate):
    wild = f"train.optimizer={{kind: adamw, rate: {rate}}}"
    training = training_of(tiny("train.steps=60", wild))
    with pytest.raises(NonFinite, match=r"train\.optimizer\.rate"):
        run_steps(training, 60)
    assert training.step <= 15
    assert any(f.kind == "explosion" for f in training.guard.faults) or rate == "1e30"


HEALTHY = [
    [],
    ["train.optimizer={kind: adamw, rate: 3e-3}"],
    ["train.batch=2"],
    ["path.kind=vp", "model.predicts=eps", "objective.weight=simple", "path.last=0.999"],
    ["path.kind=vp", "model.predicts=eps", "objective.weight=x0", "path.last=0.999"],
    ["path.kind=cosine", "model.predicts=x0", "objective.weight=snr", "path.first=0.01"],
    ["path.kind=ve", "model.predicts=eps", "model.preconditioned=true", "objective.weight=edm"],
    ["path={kind: edm}", "model.predicts=x0", "model.preconditioned=true",
     "objective={weight: edm, times: {kind: log_normal}}"],
    ["objective.coupling=optimal", "sample={solver: euler, grid: {kind: uniform}}"],
    ["data.normalisation=range"],
    ["network={kind: mlp, width: 8, depth: 1}", "objective.kind=score_matching", "path.kind=ve",
     "model.predicts=score", "path.first=0.1", "train.batch=4"],
]  # fmt: skip


@pytest.mark.parametrize("overrides", HEALTHY)
def test_a_healthy_run_never_meets_the_rule(overrides):
    training = training_of(tiny(MLP, "train.steps=40", *overrides))
    drive(training, 40)
    assert training.guard.faults == []
    assert training.guard.trouble == 0


def test_settings_out_of_range_are_refused():
    for bad in ("skips=0", "rollbacks=-1", "lower=1", "lower=0", "explosion=1", "explosion=.inf"):
        with pytest.raises(RecipeError, match=r"train\.guard\."):
            tiny(f"train.guard.{bad}")
    assert load_recipe(tiny().model_dump(mode="json")) == tiny()


def test_a_state_without_a_guard_starts_one_anew():
    training = training_of(tiny(MLP, "train.steps=9"))
    drive(training, 1)
    training.load_state(training.state() | {"guard": {}})
    assert training.guard.state() == Guard(training.config.guard).state()
    with pytest.raises(ArtifactError, match="'config'"):  # a state says nothing else
        training.load_state(training.state() | {"guard": {"config": {"skips": 10**9}}})


def skipping(rank, folder):
    """Four updates on one of two processes, the second of them with a bad sample in the half of
    the second process."""
    training = poisoned(training_of(tiny(MLP, "train.steps=9"), double=True), [16 + 13])
    faults = [update.fault for update in drive(training, 4)]
    assert [fault is None for fault in faults] == [True, False, True, True]
    numbers = {"row": torch.tensor(faults[1].row), "t": torch.tensor(faults[1].t)}
    return everything(training) | numbers


def test_two_processes_skip_the_same_update_and_name_the_same_sample(tmp_path):
    alone = skipping(0, tmp_path)
    for said in at_once(2, skipping, tmp_path / "two"):
        assert isinstance(said, dict), said
        for name, value in alone.items():
            torch.testing.assert_close(said[name], value, rtol=1e-6, atol=1e-6, msg=name)
