"""The ramp of the batch, and batches that do not fit into memory."""

import subprocess
import sys

import pytest
import torch

from tests.training.processes import at_once
from tests.training.test_run import go, lines
from tests.training.tiny import assert_same, check_resume, everything, run_steps, tiny, training_of
from unnoise.errors import DataError, OutOfMemory, RecipeError
from unnoise.training.batches import Parts, batch_at, out_of_memory, rate_of

ADAMW = ["train.optimizer.kind=adamw", "objective.times.stratified=true"]
RAMP = ["train.steps=10", "train.ramp={first: 4, over: 0.6}"]
NO_ROOM = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 9 bytes"


# ── ramp ─────────────────────────────────────────────────────────────────────────────────────
def test_the_batch_doubles_in_stages_of_equal_length():
    config = tiny(*RAMP).train  # 4, 8, then 16 from 0.6 on
    said = [batch_at(k / 10, config) for k in range(10)]
    assert said == [4, 4, 4, 8, 8, 8, 16, 16, 16, 16]
    assert batch_at(1.0, config) == 16
    long = tiny("train.batch=64", "train.ramp={first: 2, over: 1}").train
    assert [batch_at((k + 0.5) / 5, long) for k in range(5)] == [2, 4, 8, 16, 32]
    assert batch_at(0.3, tiny().train) == 16


def test_the_rate_goes_with_the_batch_as_asked():
    shares = {"constant": 1.0, "sqrt": 0.5, "linear": 0.25}
    for rule, share in shares.items():
        config = tiny("train.steps=10", f"train.ramp={{first: 4, rate: {rule}}}").train
        assert (rate_of(4, config), rate_of(16, config)) == (share, 1.0)
    flat, rising = (
        training_of(tiny(*ADAMW, "train.steps=10", f"train.ramp={{first: 4, rate: {rule}}}"))
        for rule in ("constant", "linear")
    )
    assert next(rising.updates()).rate == next(flat.updates()).rate / 4


def test_updates_take_the_ramps_samples_each_once():
    training = training_of(tiny(*ADAMW, *RAMP))
    taken, batch = [], training.batch

    def noted(counter, size):
        taken.extend(range(counter, counter + size))
        return batch(counter, size)

    training.batch = noted
    sizes = [len(u.per_sample) for u in training.updates()]
    assert sizes == [4, 4, 4, 8, 8, 8, 16, 16, 16, 16]
    assert taken == list(range(sum(sizes)))
    assert training.seen == sum(sizes)


def test_times_are_stratified_over_the_batch_as_it_is():
    training = training_of(tiny(*ADAMW, *RAMP, "train.accumulate=2"))
    t = next(training.updates()).t
    assert sorted((t * 4).floor().tolist()) == [0, 1, 2, 3]


def test_a_pause_on_the_ramp_changes_nothing(tmp_path):
    check_resume(lambda: training_of(tiny(*RAMP)), tmp_path, 8, 2, 5)


def test_workers_follow_the_ramp():
    alone = training_of(tiny(*RAMP))
    fed = training_of(tiny(*RAMP, "train.workers=1"))
    assert run_steps(alone, 7) == run_steps(fed, 7)


def ramped(rank, folder, overrides):
    training = training_of(tiny(*ADAMW, *RAMP, *overrides), double=True)
    losses = run_steps(training, 7)
    return everything(training) | {"losses": torch.tensor(losses)}


def test_two_processes_on_a_ramp_are_one(tmp_path):
    alone = ramped(0, tmp_path, [])
    for said in at_once(2, ramped, tmp_path / "two", ["train.accumulate=2"]):
        torch.testing.assert_close(said["losses"], alone["losses"], rtol=1e-9, atol=1e-9)
        for name, value in alone.items():  # AdamW divides gradients near 0 by their own size
            torch.testing.assert_close(said[name], value, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("first", [16, 3, 5, 32])
def test_ramps_that_do_not_double_up_are_refused(first):
    with pytest.raises(RecipeError, match=r"train\.ramp\.first"):
        tiny(f"train.ramp.first={first}")
    with pytest.raises(RecipeError, match=r"train\.accumulate"):
        tiny("train.ramp.first=2", "train.accumulate=4")
    with pytest.raises(DataError, match="a batch of 2"):
        Parts(tiny("train.ramp.first=2").train, 4)


# ── what does not fit ────────────────────────────────────────────────────────────────────────
def narrow(training, most, error=RuntimeError, late=True):
    """Its network refuses more than `most` samples, after work whose traces must not stay."""
    network, seen = training.denoiser.network, []
    forward = network.forward

    def refusing(x, *others, **named):
        seen.append(len(x))
        out = forward(x, *others, **named)
        if len(x) > most:
            if late:  # in the backward pass, when some gradients are there
                return Refuses.apply(out)
            raise error(NO_ROOM)
        return out

    class Refuses(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            bias = next(iter(network.parameters()))
            bias.grad = torch.ones_like(bias)
            raise error(NO_ROOM)

    network.forward = refusing
    return seen


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_what_does_not_fit_is_halved_and_the_update_made_again(error, late):
    training = training_of(tiny(*ADAMW), double=True)
    seen = narrow(training, 5, error, late)
    wanted = training_of(tiny(*ADAMW, "train.accumulate=4"), double=True)
    updates = training.updates()
    first, second = next(updates), next(updates)
    assert seen == [16, 8, *[4] * 8]
    assert "16 samples" not in first.note  # what is said is the last: 8 did not fit, 4 does
    assert "8 samples at once do not fit" in first.note
    assert "train.accumulate=4" in first.note
    assert second.note is None
    run_steps(wanted, 2)
    assert_same(everything(training), everything(wanted))
    assert (training.step, training.seen, training.guard.skipped) == (2, 32, 0)


def test_odd_parts_are_split_evenly_too():
    parts = Parts(tiny("train.batch=18", "train.accumulate=2").train, 1)
    assert parts.split(18) == (2, 9)
    parts.shrink(18)  # at most 4: the next that divides is 3
    assert parts.split(18) == (6, 3)
    parts.shrink(18)
    assert parts.split(18) == (18, 1)
    with pytest.raises(OutOfMemory, match="one sample does not fit"):
        parts.shrink(18)


def test_the_hint_for_next_time_is_a_recipe_that_is_taken():
    parts = Parts(tiny("train.batch=16", "train.ramp={first: 2}").train, 1)
    assert "train.accumulate=2 starts" in parts.shrink(16)
    said = parts.shrink(16)  # four parts, into which the ramp's first batch cannot be split
    assert "from here on 4, in 4 parts" in said
    assert "accumulate" not in said
    with pytest.raises(RecipeError, match="does not double up"):
        tiny("train.batch=16", "train.ramp={first: 2}", "train.accumulate=4")


def test_one_sample_that_does_not_fit_ends_the_run_and_is_a_memory_error():
    training = training_of(tiny(*ADAMW))
    narrow(training, 0)
    before = training.state()["players"]["denoiser"]["weights"]["embed.noise.first.weight"].clone()
    with pytest.raises(MemoryError, match="take a smaller network"):
        next(training.updates())
    assert torch.equal(
        training.state()["players"]["denoiser"]["weights"]["embed.noise.first.weight"], before
    )
    assert all(p.grad is None for p in training.denoiser.network.parameters())
    assert (training.step, training.seen, training.ema.updates) == (0, 0, 0)


def test_other_errors_are_not_taken_for_it():
    training = training_of(tiny(*ADAMW))
    training.denoiser.network.forward = lambda *a, **k: (_ for _ in ()).throw(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        next(training.updates())
    assert not out_of_memory(ValueError(NO_ROOM))
    assert out_of_memory(MemoryError())


def test_what_an_objective_learned_in_the_failed_try_is_forgotten():
    history = [
        "path.kind=chain", "path.steps=4", "model.predicts=v", "model.learned_variance=true",
        "objective.kind=vlb", "objective.times={kind: loss_history, keep: 1}",
    ]  # fmt: skip
    training, wanted = (
        training_of(tiny(*history)),
        training_of(tiny(*history, "train.accumulate=2")),
    )
    narrow(training, 8)
    assert run_steps(training, 3) == run_steps(wanted, 3)
    assert_same(everything(training), everything(wanted))


def test_what_fits_is_remembered_over_a_pause(tmp_path):
    from unnoise.training import Checkpoints

    training = training_of(tiny(*ADAMW))
    narrow(training, 4)
    run_steps(training, 1)
    Checkpoints(tmp_path).save(training.state(), {})
    again = training_of(tiny(*ADAMW))
    again.load_state(Checkpoints(tmp_path).load()[0])
    seen = narrow(again, 4)
    assert run_steps(again, 1) == run_steps(training, 1)
    assert seen == [4] * 4


def one_is_short(rank, folder):
    """Only the second process is short of memory, and both have to do with less."""
    training = training_of(tiny(*ADAMW), double=True)
    seen = narrow(training, 4 if rank else 16)
    losses = run_steps(training, 3)
    return everything(training) | {"losses": torch.tensor(losses), "seen": torch.tensor(seen)}


def test_processes_agree_on_what_fits(tmp_path):
    alone = training_of(tiny(*ADAMW), double=True)
    losses = run_steps(alone, 3)
    for said in at_once(2, one_is_short, tmp_path):
        assert isinstance(said, dict), said
        assert said.pop("seen").tolist() == [8, *[4] * 6]
        torch.testing.assert_close(said.pop("losses"), torch.tensor(losses))
        for name, value in everything(alone).items():
            torch.testing.assert_close(said[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_a_run_says_it_once(tmp_path, monkeypatch, capsys):
    from unnoise.training import run

    class Narrow(run.Training):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            narrow(self, 8)

    monkeypatch.setattr(run, "Training", Narrow)
    go(tiny(*ADAMW), tmp_path / "run", quiet=False)
    assert capsys.readouterr().err.count("do not fit into memory") == 1
    assert [r["most"] for r in lines(tmp_path / "run") if r["kind"] == "smaller_parts"] == [8]


REAL = """
import resource, torch
torch.set_num_threads(1)
from tests.training.tiny import tiny, training_of
training = training_of(tiny(
    "network={kind: mlp, width: 64, depth: 2}", "train.batch=65536", "train.optimizer.kind=adamw",
))
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 200 * 2**20,) * 2)
update = next(training.updates())
print(training.parts.most, len(update.per_sample), float(update.loss) > 0, update.note)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_memory_that_really_runs_out():
    said = subprocess.run(
        [sys.executable, "-c", REAL], capture_output=True, text=True, timeout=120,
        env={"PATH": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": "src:."},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-2000:]
    most, batch, finite, *note = said.stdout.split()
    assert int(most) < 65536
    assert (batch, finite) == ("65536", "True")
    assert "do not fit into memory" in " ".join(note)
