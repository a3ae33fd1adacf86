"""Several players in one run: in turn, at their own cadence, resumed bit for bit."""

import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from torch import nn

from unnoise.data import from_arrays
from unnoise.errors import ArtifactError, InvalidArgument, Unsupported
from unnoise.fields import Denoiser, Prediction
from unnoise.objectives import Denoising, Loss, Objective
from unnoise.paths import Flow
from unnoise.randomness import Streams
from unnoise.recipes.train_section import AdamWConfig, PowerEma, TrainConfig
from unnoise.training import Checkpoints, Player, Training

ADAMW = AdamWConfig(kind="adamw", rate=3e-3)


class Draws(Objective):
    """A generator's loss against a critic: −E critic(G(z))."""

    needs = ("critic",)

    def __call__(self, model, batch, noise, *, critic):
        per_sample = -critic(model(noise.normal(2).to(batch.x0))).flatten()
        return Loss(per_sample.mean(), per_sample.detach(), torch.zeros(len(per_sample)))


class Judges(Objective):
    """A critic's loss: the hinge, on data and on what the generator makes of its own noise."""

    needs = ("generator",)

    def __call__(self, model, batch, noise, *, generator):
        made = generator(noise.normal(2).to(batch.x0))
        per_sample = ((1 - model(batch.x0)).relu() + (1 + model(made)).relu()).flatten()
        return Loss(per_sample.mean(), per_sample.detach(), torch.zeros(len(per_sample)))


def data():
    return from_arrays(Streams(0, range(200), "ring").normal(2).sign() * torch.tensor([1.0, 2.0]))


def module(out, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, out))


def gan(every=(1, 1), steps=12, **options):
    """A GAN in two dimensions: a generator with an average, a critic without."""
    players = [
        Player("critic", module(1, 1), Judges(), ADAMW, every=every[0]),
        Player("generator", module(2, 2), Draws(), ADAMW, PowerEma(), every=every[1]),
    ]
    config = TrainConfig(steps=steps, batch=8, precision="fp32", **options)
    return Training(players, data(), config)


def everything(training):
    """Every tensor of a run's state by name, and its numbers."""
    out, numbers = {}, {}

    def walk(name, value):
        if isinstance(value, torch.Tensor):
            out[name] = value.detach().clone()
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name}.{key}", inner)
        elif isinstance(value, list):
            for key, inner in enumerate(value):
                walk(f"{name}.{key}", inner)
        elif not name.endswith("elapsed"):
            numbers[name] = tuple(value) if isinstance(value, tuple) else value

    walk("", training.state())
    return out, numbers


def assert_same(one, two):
    (a, b), (c, d) = everything(one), everything(two)
    assert a.keys() == c.keys()
    assert [name for name in a if not torch.equal(a[name], c[name])] == []
    assert b == d


def drive(training, count):
    updates = training.updates()
    found = [next(updates) for _ in range(count)]
    return [{name: float(o.loss) for name, o in update.outcomes.items()} for update in found]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("every", [(1, 1), (1, 3), (2, 1)])
@pytest.mark.parametrize("pause", [1, 4, 5, 6])
def test_two_players_are_resumed_bit_for_bit(tmp_path, every, pause, accumulate):
    straight = gan(every, accumulate=accumulate)
    losses = drive(straight, 11)
    first = gan(every, accumulate=accumulate)
    before = drive(first, pause)
    Checkpoints(tmp_path).save(first.state(), {"a": 1})
    drive(first, 1)  # must not matter
    resumed = gan(every, accumulate=accumulate)
    resumed.load_state(Checkpoints(tmp_path).load()[0])
    assert before + drive(resumed, 11 - pause) == losses
    assert_same(resumed, straight)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.test_players import gan
from unnoise.training import Checkpoints
training = gan((1, 2), steps=400)
for update in training.updates():
    Checkpoints(Path(sys.argv[1]), keep=3).save(training.state(), {})
    print(update.step, flush=True)
"""


def test_two_players_killed_at_any_moment_are_resumed_bit_for_bit(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(["src", "."]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    for line in child.stdout:
        if int(line) >= 5:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.wait()
    resumed = gan((1, 2), steps=400)
    resumed.load_state(Checkpoints(tmp_path).load()[0])
    assert 5 <= resumed.step < 400
    count = resumed.step + 6
    drive(resumed, 6)
    straight = gan((1, 2), steps=400)
    drive(straight, count)
    assert_same(resumed, straight)


def test_players_take_turns_at_their_cadence_and_see_each_other():
    """Every round by hand: the second player sees the first one's new weights."""
    training = gan((1, 2))
    critic, generator = module(1, 1), module(2, 2)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.0, betas=ADAMW.betas, weight_decay=0.0,
                                    fused=True) for m in (critic, generator)]  # fmt: skip
    part, config = data(), training.config
    for step, update in zip(range(1, 7), training.updates(), strict=False):
        due = ["critic", "generator"] if step % 2 == 0 else ["critic"]
        assert [*update.outcomes] == due
        rows = part.order(0, 8 * (step - 1), 8)
        x0, noise = part.batch(rows).x0, Streams(0, range(8 * (step - 1), 8 * step), "training")
        for k, (name, model) in enumerate((("critic", critic), ("generator", generator))):
            if name not in due:
                continue
            for group in optimizers[k].param_groups:
                group["lr"] = ADAMW.rate * update.rate
            z = (noise if k == 0 else noise.purpose("generator")).normal(2)
            if k == 0:
                made = generator(z).detach()
                loss = ((1 - critic(x0)).relu() + (1 + critic(made)).relu()).mean()
            else:
                loss = -critic(generator(z)).mean()
            model.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizers[k].step()
            torch.testing.assert_close(update.outcomes[name].loss, loss.detach())
    for name, model in (("critic", critic), ("generator", generator)):
        mine = dict(training.players[name].model.named_parameters())
        for key, value in model.named_parameters():
            torch.testing.assert_close(mine[key], value, rtol=1e-5, atol=1e-6)


def test_no_gradient_reaches_the_other_player():
    training = gan()
    seen = []
    other = training.players["critic"].parameters[0]
    step = training.players["generator"].step

    def look(*arguments):
        seen.append((other.grad, other.requires_grad))
        step(*arguments)

    training.players["generator"].step = look
    drive(training, 2)
    assert [grad for grad, _ in seen] == [None, None]
    assert other.requires_grad


def test_judged_late_two_players_are_the_same():
    at_once, late = gan((1, 2)), gan((1, 2))
    late.deferred = True
    assert drive(at_once, 9) == drive(late, 9)
    assert_same(at_once, late)


def test_a_bad_update_of_one_player_is_left_out_alone():
    training = gan()
    weight = training.players["generator"].parameters[0]
    weight.register_hook(lambda g: g * (float("nan") if training.step == 2 else 1))
    drive(training, 2)
    before = [p.detach().clone() for p in training.players["generator"].parameters]
    critic = training.players["critic"].parameters[0].detach().clone()
    update = next(training.updates())
    assert (update.fault.kind, update.step) == ("gradient", 3)
    assert all(map(torch.equal, before, training.players["generator"].parameters))
    assert not torch.equal(critic, training.players["critic"].parameters[0])
    assert training.guard.sizes.keys() == {"critic", "generator"}


class Distil(Objective):
    """Regress a teacher's prediction, and hold near the own average's."""

    needs = ("teacher", "ema")

    def __init__(self):
        self.seen = []

    def __call__(self, model, batch, noise, *, teacher, ema):
        t = noise.uniform().double()
        x_t = model.path.diffuse(batch.x0, noise.normal(2), t)
        self.seen.append(ema.network[0].weight.detach().clone())
        miss = model(x_t, t).value - teacher(x_t, t).x0
        near = model(x_t, t).value - ema(x_t, t).value
        per_sample = (miss.square() + 0.1 * near.square()).mean(1)
        return Loss(per_sample.mean(), per_sample.detach(), t)


class Zero(nn.Module):
    """A teacher whose x0 is 3 everywhere; it has a parameter, which must stay."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(3.0))

    def forward(self, x_t, t, condition=None):
        return Prediction.of("x0", self.value.expand_as(x_t), x_t, t, Flow())


class Plain(nn.Sequential):
    def forward(self, x, noise_level, condition=None):
        return super().forward(x)


@pytest.mark.parametrize("deferred", [False, True])
def test_an_objective_is_given_the_teacher_and_its_own_average(deferred):
    def make():
        denoiser = Denoiser(Plain(*module(2, 3)), Flow(), "x0")
        player = Player("student", denoiser, Distil(), ADAMW, PowerEma())
        config = TrainConfig(steps=20, batch=8, precision="fp32")
        return Training(player, data(), config, frozen={"teacher": Zero()})

    training, averages = make(), []
    training.deferred = deferred
    first = training.denoiser.network[0].weight.detach().clone()
    losses = []
    for update in training.updates():
        losses.append(float(update.loss))
        training.judge_pending()
        averages.append(training.ema.averages[0].clone())
    seen = training.objective.seen
    assert torch.equal(seen[0], first)
    assert all(map(torch.equal, seen[1:], averages[:-1]))
    assert any(not torch.equal(a, b) for a, b in pairwise(seen))
    assert float(training.frozen["teacher"].value) == 3.0
    assert losses[-1] < losses[0]


def test_impossible_players_are_refused():
    def build(*players, **options):
        return Training(list(players), data(), TrainConfig(steps=2, batch=8), **options)

    critic = Player("critic", module(1, 1), Judges(), ADAMW)
    with pytest.raises(InvalidArgument, match="needs 'generator', and there are players"):
        build(critic)
    with pytest.raises(InvalidArgument, match="share a name"):
        build(critic, critic)
    with pytest.raises(InvalidArgument, match="share a name"):
        build(critic, frozen={"critic": module(1, 1)})
    with pytest.raises(InvalidArgument, match="due in every round"):
        build(Player("critic", module(1, 1), Denoising(), every=2))
    with pytest.raises(InvalidArgument, match=r"needs 'ema'.*give the player an ema"):
        build(Player("s", module(2, 1), Distil(), ADAMW), frozen={"teacher": Zero()})
    with pytest.raises(InvalidArgument, match=r"named 'a\.b'"):
        Player("a.b", module(1, 1), Judges())
    with pytest.raises(InvalidArgument, match="no parameter that can be trained"):
        Player("a", nn.Tanh(), Judges())
    with pytest.raises(InvalidArgument, match="every is 0"):
        Player("a", module(1, 1), Judges(), every=0)
    with pytest.raises(Unsupported, match="keeps no average"):
        _ = build(critic, Player("generator", module(2, 2), Draws(), ADAMW)).ema
    with pytest.raises(Unsupported, match="makes no model"):
        gan().model()


def test_a_checkpoint_of_other_players_is_refused():
    state = gan().state()
    state["players"]["judge"] = state["players"].pop("critic")
    with pytest.raises(ArtifactError, match=r"of players \['generator', 'judge'\], and this"):
        gan().load_state(state)


def test_several_modules_are_one_player():
    both = {"first": nn.Linear(2, 3), "second": nn.Linear(3, 2)}

    class Rebuild(Objective):
        def __call__(self, model, batch, noise):
            miss = model["second"](model["first"](batch.x0)) - batch.x0
            per_sample = miss.square().mean(1)
            return Loss(per_sample.mean(), per_sample.detach(), torch.zeros(len(miss)))

    player = Player("autoencoder", both, Rebuild(), ADAMW, PowerEma())
    training = Training(player, data(), TrainConfig(steps=200, batch=8, precision="fp32"))
    losses = [float(update.loss) for update in training.updates()]
    assert losses[-1] < 0.5 * losses[0]
    names = training.state()["players"]["autoencoder"]["weights"].keys()
    assert names == {"first.weight", "first.bias", "second.weight", "second.bias"}
