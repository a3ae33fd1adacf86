"""The loss by noise level of models whose loss is known."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.training.tiny import model_of, parts_of, tiny
from unnoise.data import Dataset
from unnoise.fields import Prediction
from unnoise.objectives import Denoising, weight
from unnoise.paths import Cosine, Flow
from unnoise.pipelines.noise_levels import loss_by_level
from unnoise.randomness import Streams


class Linear(nn.Module):
    """The best linear predictor of N(0, s²) data in a lens, its answer off by `miss`."""

    def __init__(self, path, predicts, s=1.0, miss=0.0, scale=1.0):
        super().__init__()
        self.path, self.predicts, self.data_std = path, predicts, s
        self.miss, self.scale, self.seen = miss, scale, []
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, x_t, t, condition=None):
        self.seen.append(condition)
        a, s = self.path.alpha(t)[:, None].float(), self.path.sigma(t)[:, None].float()
        v = self.data_std**2
        x0, eps = a * v * x_t / (a**2 * v + s**2), s * x_t / (a**2 * v + s**2)
        value = {"eps": eps, "x0": x0, "v": a * eps - s * x0, "velocity": eps - x0}[self.predicts]
        return Prediction.of(self.predicts, self.scale * value + self.miss, x_t, t, self.path)


def white(seed, n=400, d=6, classes=None):
    x = Streams(seed, range(n)).normal(d)
    labels = None if classes is None else torch.arange(n) % classes
    names = None if classes is None else [str(c) for c in range(classes)]
    return Dataset.of(
        x, labels, name="white", modality="vector", channels="numbers", class_names=names,
        licence="none", source="test", value_range=(-9, 9), normalisation="range",
    )  # fmt: skip


def model(denoiser, spec, classes=0):
    recipe = SimpleNamespace(objective=tiny().objective)
    return SimpleNamespace(
        denoiser=denoiser,
        recipe=recipe,
        spec=spec,
        classes=classes,
        conditions=spec.conditions if classes else {},
        precision="fp32",
    )


def found(path, lens, seed=0, **options):
    """Of white data, which "range" divides by 9."""
    data = white(0)
    return loss_by_level(
        model(Linear(path, lens, s=1 / 9, **options), data.spec), data, white(1), seed
    )


@pytest.mark.parametrize(
    ("path", "lens"),
    [(Flow(), "velocity"), (Flow(), "x0"), (Cosine(), "v"), (Cosine(), "eps"), (Cosine(), "x0")],
)
def test_the_best_linear_predictor_of_white_data_is_the_trivial_one(path, lens):
    got = found(path, lens)
    assert got.share.value == pytest.approx(1, abs=0.05)
    assert got.share.low < 1 < got.share.high
    assert got.share.floor == pytest.approx(1, abs=0.05)
    for level in got.levels:
        assert level.n == 160
        assert level.loss == pytest.approx(level.trivial, rel=0.15)
        assert level.train == pytest.approx(level.trivial, rel=0.15)
    assert lens in got.protocol


def test_the_trivial_loss_is_that_of_the_formula():
    # velocity of the flow: det = −1 at every t, so s²/((1 − t)²s² + t²)
    for level in found(Flow(), "velocity").levels[2:]:
        t, s = (level.low + level.high) / 2, 1 / 9
        assert level.trivial == pytest.approx(s**2 / ((1 - t) ** 2 * s**2 + t**2), rel=0.05)


def test_a_constant_error_adds_its_square():
    plain, off = found(Flow(), "velocity"), found(Flow(), "velocity", miss=0.5)
    for a, b in zip(plain.levels, off.levels, strict=True):
        assert b.loss - a.loss == pytest.approx(0.25, abs=0.06)
        assert a.trivial == b.trivial  # at the same noise
    assert off.share.value > 2


def test_it_repeats_and_another_seed_is_other_noise():
    state = torch.get_rng_state()
    assert found(Flow(), "velocity") == found(Flow(), "velocity")
    other = found(Flow(), "velocity", seed=1).levels
    for a, b in zip(found(Flow(), "velocity").levels, other, strict=True):
        assert a.loss != b.loss
        assert a.trivial != b.trivial
    assert torch.equal(state, torch.get_rng_state())


def test_the_class_is_shown_to_a_model_that_takes_one():
    data, net = white(0, classes=4), Linear(Flow(), "velocity")
    loss_by_level(model(net, data.spec, classes=4), data, white(1, classes=4))
    assert torch.equal(net.seen[0].values["class"], data.labels[:250])
    assert bool(net.seen[0].keep["class"].all())
    net.seen.clear()
    loss_by_level(model(net, data.spec), data, white(1, classes=4))
    assert net.seen[0] is None


def test_few_values_are_used_all_and_many_in_part():
    data = white(0, n=40)
    got = loss_by_level(model(Linear(Flow(), "velocity"), data.spec), data, white(1, n=700))
    assert sum(level.n for level in got.levels) == 160
    assert "on 40 held-out values at 4 noise levels" in got.protocol
    assert "on 500 training values" in got.protocol


def test_one_noise_level_has_no_levels():
    data = white(0, n=40)
    one = model(Linear(Flow(), "velocity"), data.spec)
    one.recipe = tiny("objective.times={kind: one_level, sigma: 0.5}")
    assert loss_by_level(one, data, data) is None


def test_a_real_model_says_what_its_training_said():
    """The loss of an untrained model is that of the objective it would be trained by."""
    made, parts = model_of(tiny()), parts_of(tiny())
    got = loss_by_level(made, parts["test"], parts["train"])
    batch = parts["train"].batch(range(400))
    want = Denoising(weight=weight("velocity"))(made.denoiser, batch, Streams(5, range(400))).value
    assert sum(v.train for v in got.levels) / 10 == pytest.approx(float(want), rel=0.1)
