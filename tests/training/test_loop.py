import itertools

import pytest
import torch

from tests.training.tiny import (
    assert_same,
    check_resume,
    everything,
    parts_of,
    run_steps,
    tiny,
    training_of,
)
from unnoise.data import order
from unnoise.errors import DataError
from unnoise.randomness import Streams

EXACT = [
    ["train.optimizer.kind=muon"],
    ["train.optimizer.kind=adamw", "train.ema={kind: constant, decay: 0.9}"],
    ["train.accumulate=2", "train.optimizer.weight_decay=0.01"],
]


@pytest.mark.parametrize("overrides", EXACT, ids=["muon", "adamw", "accumulated"])
def test_resuming_through_the_disk_is_the_uninterrupted_run(overrides, tmp_path):
    # 64 of 1,597 a step: the pause falls inside an epoch, the 30 steps end inside another
    recipe = tiny("train.steps=30", "train.batch=64", *overrides)
    _, resumed = check_resume(lambda: training_of(recipe), tmp_path, 30, 13, 17)
    assert (resumed.step, resumed.seen, resumed.ema.updates) == (30, 1920, 30)
    assert resumed.progress == 1
    assert list(resumed.updates()) == []


@pytest.mark.parametrize("stratified", ["true", "false"])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_parts_are_one_batch(stratified, accumulate):
    plain = [
        "train.steps=6", f"objective.times.stratified={stratified}", "train.optimizer.kind=adamw",
    ]  # fmt: skip
    whole = training_of(tiny(*plain), double=True)
    parts = training_of(tiny(*plain, f"train.accumulate={accumulate}"), double=True)
    for a, b in zip(whole.updates(), parts.updates(), strict=True):
        torch.testing.assert_close(a.per_sample, b.per_sample, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(a.gradient_norm, b.gradient_norm, rtol=1e-9, atol=1e-9)
        assert torch.equal(a.t, b.t)
        assert (a.seen, a.rate) == (b.seen, b.rate)
    for one, other in zip(everything(whole).values(), everything(parts).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_the_loss_falls_below_that_of_a_predictor_that_knows_nothing():
    training = training_of(tiny("train.steps=120", "train.batch=32"))
    updates = list(training.updates())
    early = sum(float(u.loss) for u in updates[:5]) / 5
    late = sum(float(u.loss) for u in updates[-20:]) / 20
    assert late < 0.65 * early
    held, t = training.held_out(parts_of(tiny())["validation"])
    assert float(held.mean()) < 0.8 * float(training.baseline_loss(t).mean())


def test_the_caller_drives_the_loop_and_may_stop_and_go_on():
    training = training_of(tiny("train.steps=6"))
    seen = [u.step for u in itertools.islice(training.updates(), 2)]
    assert (seen, training.progress) == ([1, 2], 2 / 6)
    rest = list(training.updates())
    assert [u.step for u in rest] == [3, 4, 5, 6]
    assert [u.seen for u in rest] == [48, 64, 80, 96]
    assert rest[-1].progress == pytest.approx(5 / 6)
    straight = training_of(tiny("train.steps=6"))
    list(straight.updates())
    assert_same(everything(training), everything(straight))


def test_batches_are_a_pure_function_of_the_samples_seen():
    a, b = training_of(tiny()), training_of(tiny())
    run_steps(b, 3)
    (one, noise), (two, other) = a.batch(1590, 20), b.batch(1590, 20)
    assert torch.equal(one.x0, two.x0)
    assert torch.equal(one.condition.values["class"], two.condition.values["class"])
    assert torch.equal(noise.normal(4), other.normal(4))
    rows = order(0, 1597, 1590, 20)  # reaches over the end of an epoch
    wanted = a.data.batch(rows)
    assert torch.equal(one.x0, wanted.x0)
    assert torch.equal(one.condition.values["class"], a.data.labels[rows])
    assert noise.indices == range(1590, 1610)
    assert not torch.equal(
        training_of(tiny("train.seed=1")).batch(0, 20)[0].x0, a.batch(0, 20)[0].x0
    )


def test_every_sample_comes_once_an_epoch():
    training = training_of(tiny())
    pieces = [training.batch(c, min(100, 1597 - c))[0].x0 for c in range(0, 1597, 100)]
    rows = order(0, 1597, 0, 1597)
    assert torch.equal(rows.sort().values, torch.arange(1597))
    assert torch.equal(torch.cat(pieces), training.data.batch(rows).x0)


def test_a_batch_may_be_larger_than_the_data():
    recipe = tiny("data.split={train: 10}", "train.batch=32", "train.steps=2")
    training = training_of(recipe)
    assert len(training.data) == 10
    assert len(list(training.updates())) == 2
    assert training.seen == 64


def test_labelled_data_can_be_learned_without_their_labels():
    recipe = tiny("model.conditional=false", "sample.guidance=1")
    training = training_of(recipe)
    assert training.batch(0, 4)[0].condition is None
    assert not training.conditional
    run_steps(training, 2)
    assert not any(
        "condition" in n or "class" in n for n, _ in training.denoiser.network.named_parameters()
    )


def test_held_out_loss_is_fixed_of_the_averages_and_leaves_training_as_it_was():
    training = training_of(tiny("train.steps=20"))
    validation = parts_of(tiny())["validation"]
    run_steps(training, 5)
    before = everything(training)
    a, t = training.held_out(validation)
    b, _ = training.held_out(validation)
    assert torch.equal(a, b)
    assert a.shape == t.shape == (100,)
    assert_same(everything(training), before)
    assert training.denoiser.training
    few, _ = training.held_out(validation, limit=30)
    assert len(few) == 30
    with training.ema.applied():
        own = [p.detach().clone() for p in training.denoiser.network.parameters()]
    with torch.no_grad():
        for p, average in zip(training.denoiser.network.parameters(), own, strict=True):
            p.copy_(average)
    assert torch.equal(training.held_out(validation)[0], a)


def test_clipping_bounds_the_gradient_and_null_does_not(monkeypatch):
    norms = {}
    for clip in ("0.01", "null"):
        training = training_of(tiny("train.steps=3", f"train.clip={clip}"))
        seen = []

        def look(training=training, seen=seen):
            squares = [p.grad.square().sum() for p in training.denoiser.network.parameters()]
            seen.append(float(torch.stack(squares).sum().sqrt()))

        step = training.leader.optimizers.step
        monkeypatch.setattr(
            training.leader.optimizers, "step", lambda bad=None, s=step, look=look: (look(), s(bad))
        )
        reported = [float(u.gradient_norm) for u in training.updates()]
        norms[clip] = (seen, reported)
    assert max(norms["0.01"][0]) <= 0.01 * (1 + 1e-4)
    assert min(norms["0.01"][1]) > 0.01  # the norm before clipping
    assert norms["null"][0] == pytest.approx(norms["null"][1], rel=1e-4)


def test_the_condition_is_dropped_at_the_rate_that_was_asked_for():
    training = training_of(tiny("objective.drop=0.3"))
    kept = []
    forward = training.denoiser.network.forward

    def look(x, level, condition=None):
        kept.append(condition.keep["class"])
        return forward(x, level, condition)

    training.denoiser.network.forward = look
    batch, noise = training.batch(0, 2000)
    with torch.no_grad():
        training.objective(training.denoiser, batch, noise)
    assert float(kept[0].float().mean()) == pytest.approx(0.7, abs=0.04)


def test_changed_data_are_not_gone_on_with():
    a = training_of(tiny("train.steps=6"))
    run_steps(a, 2)
    b = training_of(tiny("train.steps=6", "data.split.seed=1"))
    with pytest.raises(DataError, match="have changed"):
        b.load_state(a.state())


def test_a_run_by_time_goes_on_from_the_time_it_had():
    training = training_of(tiny("train.budget=1h"))
    training.elapsed = 1800.0
    update = next(training.updates())
    assert update.progress == 0.5
    assert 0 < update.rate < 1
    training.elapsed = 3600.0
    assert list(training.updates()) == []


def test_training_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    run_steps(training_of(tiny()), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_noise_of_training_is_not_that_of_sampling_or_of_held_out_data():
    kinds = [Streams(0, [0], purpose).normal(8) for purpose in ("training", "sample", "held out")]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(kinds, 2))
