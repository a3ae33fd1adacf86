"""The guard's look with delay, as on a GPU, taken on the CPU: it decides what the look at once
decides, and nothing is left of a bad update."""

import math
import weakref
from contextlib import closing
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tests.training.processes import at_once as processes
from tests.training.test_guard import drive, poisoned
from tests.training.tiny import assert_same, everything, tiny, training_of, with_objective
from unnoise.errors import NonFinite
from unnoise.training import Checkpoints
from unnoise.training.muon import Muon
from unnoise.training.outcome import Outcome

MLP = "network={kind: mlp, width: 16, depth: 1}"


def both(*overrides, spoil=lambda training: training):
    """The same training with the look at once, and late."""
    recipe = tiny("train.steps=20", *overrides)
    at_once, late = spoil(training_of(recipe)), spoil(training_of(recipe))
    late.deferred = True
    return at_once, late


def every_number(training):
    """Every tensor of its state, and the averages' too."""
    out = everything(training)
    for j, kept in enumerate(training.leader.averages):
        out |= {f"average.{j}.{i}": a.clone() for i, a in enumerate(kept.averages)}
    return out


def with_losses(training, change):
    """The same training, whose losses and their sum are changed: change(update, per_sample)."""
    objective = training.objective

    def changed(model, batch, noise):
        loss = objective(model, batch, noise)
        step = noise.indices[0] // training.config.batch + 1
        factor = change(step)
        return replace(loss, value=loss.value * factor, per_sample=loss.per_sample * factor)

    return with_objective(training, changed)


def with_infinite_losses(training, steps):
    """The same training, where a loss is infinite at some updates and all gradients are finite."""
    objective = training.objective

    def changed(model, batch, noise):
        loss = objective(model, batch, noise)
        if noise.indices[0] // training.config.batch + 1 not in steps:
            return loss
        return replace(loss, per_sample=loss.per_sample.index_fill(0, torch.tensor(5), math.inf))

    return with_objective(training, changed)


def with_gradients(training, steps, which=2, factor=math.inf):
    """The same training, where a gradient is spoilt at some updates."""
    _, weight = list(training.denoiser.network.named_parameters())[which]
    weight.register_hook(lambda g: g * factor if training.step + 1 in steps else g)
    return training


KINDS = [
    [],
    [MLP, "train.optimizer.kind=adamw"],
    [MLP, "train.averages={}", "train.ema.every=2", "train.clip=0.01"],
    [MLP, "train.accumulate=4", "train.ema={kind: constant, decay: 0.9}"],
    ["network={kind: dit, width: 16, depth: 1, patch: 4, head: 8}"],
]


@pytest.mark.parametrize("overrides", KINDS)
def test_a_good_run_is_the_same_bit_for_bit(overrides):
    at_once, late = both(*overrides, "train.steps=7")
    said, heard = list(at_once.updates()), list(late.updates())
    for a, b in zip(said, heard, strict=True):
        assert (a.step, a.seen, a.rate, a.progress) == (b.step, b.seen, b.rate, b.progress)
        for name in ("loss", "per_sample", "t", "gradient_norm"):
            x, y = getattr(a, name), getattr(b, name)
            assert x.dtype == y.dtype
            assert torch.equal(x, y)
    assert all(update.judged and update.fault is None for update in heard)
    assert_same(every_number(at_once), every_number(late))
    assert at_once.guard.state() == late.guard.state()
    assert at_once.ema.updates == late.ema.updates == 7


def test_it_is_one_update_late():
    _, late = both(MLP)
    with closing(late.updates()) as updates:
        first = next(updates)
        assert not first.judged
        assert late.ema.updates == 0
        second = next(updates)
        assert (first.judged, second.judged, late.ema.updates) == (True, False, 1)
        assert second.fault is None  # whoever asks, waits
        assert (second.judged, late.ema.updates) == (True, 2)
        next(updates)
    assert late.ema.updates == 3


def test_an_update_is_judged_when_the_next_gradients_are_made(monkeypatch):
    _, late = both(MLP)
    happened = []
    backward, arrive = late.accelerator.backward, Outcome.receive
    monkeypatch.setattr(
        late.accelerator, "backward", lambda loss: (happened.append("work"), backward(loss))
    )
    monkeypatch.setattr(
        Outcome, "receive", lambda self: (happened.append(self.step), arrive(self))[1]
    )
    drive(late, 3)
    assert happened == ["work", "work", 1, "work", 2, 3]


def test_no_gradient_is_held_until_the_next():
    _, late = both(MLP)
    seen = []
    for p in late.denoiser.network.parameters():
        p.register_post_accumulate_grad_hook(lambda p: seen.append(weakref.ref(p.grad)))
    with closing(late.updates()) as updates:
        next(updates)
        assert len(seen) > 3
        assert not any(ref() is not None for ref in seen)


SPOILT = {
    "losses": lambda training: poisoned(training, [2 * 16 + 13, 3 * 16, 3 * 16 + 1, 6 * 16]),
    "every loss": lambda training: poisoned(training, range(32, 64)),
    "gradients": lambda training: with_gradients(training, (3, 4, 7)),
    "no numbers": lambda training: with_gradients(training, (3, 6), 1, math.nan),
    "explosions": lambda training: with_losses(training, lambda n: 1e6 if n in (4, 5) else 1.0),
    "too large": lambda training: with_losses(training, lambda n: 1e38 if n in (4, 6) else 1.0),
    "infinite": lambda training: with_infinite_losses(training, (2, 5)),
    "first": lambda training: poisoned(training, [1, 17]),
    "every other": lambda training: with_gradients(training, (2, 4, 6, 8)),
}


@pytest.mark.parametrize(
    "overrides",
    [
        [MLP, "train.averages={}", "train.ema.every=3", "train.clip=1"],
        [MLP, "train.optimizer.kind=adamw", "train.ema.every=2"],
    ],
)
@pytest.mark.parametrize("what", SPOILT)
def test_the_same_updates_are_skipped_and_nothing_is_left_of_them(what, overrides):
    at_once, late = both(*overrides, spoil=SPOILT[what])
    said, heard = drive(at_once, 9), drive(late, 9)
    told = [update.fault for update in said]
    assert any(told)
    assert [update.fault for update in heard] == told  # their steps, rows, times and tensors
    assert [fault.step for fault in told if fault] == [
        i + 1 for i, fault in enumerate(told) if fault
    ]
    assert_same(every_number(late), every_number(at_once))
    assert at_once.guard.state() == late.guard.state()
    assert at_once.ema.updates == late.ema.updates
    assert all(bool(torch.isfinite(v).all()) for v in every_number(late).values())


def test_before_the_first_good_update_the_optimizers_hold_zeros_instead_of_nothing():
    at_once, late = both(spoil=SPOILT["first"])
    drive(at_once, 2), drive(late, 2)
    a, b = every_number(at_once), every_number(late)
    assert_same({name: b[name] for name in a}, a)
    more = b.keys() - a.keys()
    assert more
    assert {name.split(".")[0] for name in more} == {"optimizer"}
    assert not any(bool(b[name].any()) for name in more)
    drive(at_once, 1), drive(late, 1)
    assert_same(every_number(late), every_number(at_once))


@pytest.mark.parametrize("what", ["losses", "gradients", "explosions"])
def test_a_broken_run_says_the_same_one_update_later(what):
    from_4 = {
        "losses": lambda training: poisoned(training, range(48, 10_000, 16)),
        "gradients": lambda training: with_gradients(training, range(4, 99)),
        "explosions": lambda training: with_losses(training, lambda n: 1e6 if n > 3 else 1.0),
    }[what]
    words, counts = [], []
    for training in both(MLP, "train.guard.skips=3", spoil=from_4):
        count = 0
        updates = training.updates()
        while not training.guard.broken:
            next(updates)
            count += 1
        with pytest.raises(NonFinite) as error:
            next(updates)
        words.append(str(error.value))
        counts.append(count)
        assert training.guard.broken
        assert training.guard.faults[-1].step == 6
    assert words[0] == words[1]
    assert counts == [6, 7]
    assert "update 6" in words[0]


def test_going_back_undoes_the_update_made_meanwhile():
    at_once, late = both(MLP, "train.guard.skips=2", "train.guard.lower=0.5")
    for training in (at_once, late):
        poisoned(training, range(64, 10_000))  # from update 5 on
        drive(training, 3)
        kept = deepcopy(training.state())
        with closing(training.updates()) as updates:
            while not training.guard.broken:
                last = next(updates).step
            assert last == (6 if training is at_once else 7)
            training.roll_back(kept)
        assert training.step == 3
        training.batch = type(training).batch.__get__(training)  # cured
        drive(training, 4)
    assert at_once.guard.state() == late.guard.state()
    assert late.guard.skipped == 2
    assert_same(every_number(late), every_number(at_once))


@pytest.mark.parametrize("pause", [3, 4, 5])
def test_a_state_holds_no_update_that_is_not_judged(tmp_path, pause):
    at_once, late = both(MLP, "train.ema.every=2", spoil=SPOILT["losses"])
    for training, name in ((at_once, "a"), (late, "b")):
        with closing(training.updates()) as updates:
            for _ in range(pause):
                next(updates)
            Checkpoints(tmp_path / name).save(training.state(), {})
    (kept, _), (other, _) = (Checkpoints(tmp_path / name).load() for name in "ab")
    assert kept["guard"] == other["guard"]
    one, two = (state["players"]["denoiser"] for state in (kept, other))
    assert one["ema_updates"] == two["ema_updates"]
    for part in ("weights", "ema"):
        assert all(bool(torch.isfinite(w).all()) for w in two[part].values())
        assert_same(one[part], two[part])
    resumed = SPOILT["losses"](training_of(tiny(MLP, "train.steps=20", "train.ema.every=2")))
    resumed.deferred = True
    resumed.load_state(other)
    drive(resumed, 8 - pause), drive(at_once, 8 - pause)
    assert_same(every_number(resumed), every_number(at_once))
    assert resumed.guard.state() == at_once.guard.state()


def test_a_last_update_that_breaks_the_run_is_judged_before_it_ends():
    _, late = both(MLP, "train.steps=5", "train.guard.skips=2")
    poisoned(late, [48, 64])
    broken = [(update.judged, late.guard.broken) for update in late.updates()]
    assert broken[-1] == (True, True)
    assert late.guard.faults[-1].step == 5


def test_the_held_out_loss_is_that_of_every_update_so_far():
    at_once, late = both(MLP)
    data, found = at_once.data.subset(range(32)), []
    for training in (at_once, late):
        with closing(training.updates()) as updates:
            for _ in range(4):
                next(updates)
            found.append(training.held_out(data)[0])
    assert torch.equal(*found)


def skipping(rank, folder):
    """Four late updates on one of two processes, the second with a bad sample in the half of the
    second process."""
    training = poisoned(training_of(tiny(MLP, "train.steps=9"), double=True), [16 + 13])
    training.deferred = True
    faults = [update.fault for update in drive(training, 4)]
    assert [fault is None for fault in faults] == [True, False, True, True]
    return everything(training) | {"row": torch.tensor(faults[1].row)}


def test_two_processes_skip_the_same_update(tmp_path):
    alone = skipping(0, tmp_path)
    for said in processes(2, skipping, tmp_path / "two"):
        assert isinstance(said, dict), said
        for name, value in alone.items():
            torch.testing.assert_close(said[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_muon_changes_nothing_where_it_is_told_so_and_all_else_is_as_ever():
    def stepped(grads, bad=None):
        shapes, generator = ((4, 6), (6, 4), (8, 4, 3)), torch.Generator().manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
        muon = Muon(weights, lr=0.1, momentum=0.6, weight_decay=0.1)
        for step, size in enumerate(grads):
            for w in weights:
                w.grad = torch.full_like(w, size) + torch.arange(float(w.numel())).view_as(w)
            if bad is not None:
                muon.found_inf = torch.tensor(float(step in bad))
            muon.step()
        kept = [muon.state[m]["momentum_buffer"] for m in muon.matrices]
        return [w.detach() for w in weights] + kept

    for a, b in (
        (stepped([1, 2, 3]), stepped([1, 2, 3], ())),
        (stepped([1, 3]), stepped([1, math.nan, math.inf, 3], (1, 2))),
        (stepped([1, 3]), stepped([math.nan, 1, 3], (0,))),
    ):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
