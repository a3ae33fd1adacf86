"""Steps by their losses: how often, how they are weighed, and what a pause leaves unchanged."""

import math

import pytest
import torch

from tests.exact import F64
from tests.likelihood.gaussians import WithFraction, gaussian
from unnoise.errors import DataError, InvalidArgument
from unnoise.objectives import Batch, LossHistory, Variational
from unnoise.paths import Chain
from unnoise.randomness import Streams


def filled(losses, keep=3, uniform=0.1, times=None):
    history = LossHistory(keep, uniform)
    history.probabilities(len(losses))
    for _ in range(keep if times is None else times):
        history.note(torch.arange(1, len(losses) + 1), torch.tensor(losses, dtype=F64))
    return history


def test_until_every_step_is_known_all_are_drawn_evenly():
    history = filled([1.0, 5.0, 2.0], times=2)
    assert not history.warm
    assert history.probabilities(3).tolist() == [1 / 3] * 3
    history.note(torch.tensor([1, 2]), torch.tensor([9.0, 9.0]))
    assert not history.warm
    history.note(torch.tensor([3]), torch.tensor([2.0]))
    assert history.warm
    assert history.probabilities(3).tolist() != [1 / 3] * 3


def test_the_chance_is_the_root_of_the_mean_square_of_the_last_losses():
    history = LossHistory(3, uniform=0.2)
    history.probabilities(2)
    for loss in (100.0, 1.0, 2.0, 3.0):  # the first is forgotten
        history.note(torch.tensor([1]), torch.tensor([loss]))
        history.note(torch.tensor([2]), torch.tensor([4.0]))
    a, b = math.sqrt((1 + 4 + 9) / 3), 4.0
    wanted = torch.tensor([0.8 * a / (a + b) + 0.1, 0.8 * b / (a + b) + 0.1], dtype=F64)
    torch.testing.assert_close(history.probabilities(2), wanted)


def test_draws_have_that_chance_and_their_weights_undo_it():
    history = filled([1.0, 0.1, 4.0, 2.0])
    n = 20_000
    steps, weights = history.draw(4, Streams(0, range(n)))
    shares = torch.bincount(steps, minlength=5)[1:] / n
    chance = history.probabilities(4)
    assert float((shares - chance).abs().max()) < 4 * math.sqrt(0.25 / n)
    torch.testing.assert_close(weights, 1 / (4 * chance[steps - 1]))
    value = torch.tensor([3.0, 1.0, 4.0, 1.5], dtype=F64)
    seen = weights * value[steps - 1]
    assert abs(float(seen.mean() - value.mean())) < 4 * float(seen.std()) / math.sqrt(n)


def test_it_lowers_the_variance_of_an_uneven_sum():
    value = torch.tensor([10.0, 0.1, 0.2, 0.1], dtype=F64)
    history = filled(value.tolist(), uniform=0.001)
    steps, weights = history.draw(4, Streams(0, range(2000)))
    assert float((weights * value[steps - 1]).std()) < 0.05 * float(value.std())


PATH = Chain.linear(5, 0.05, 0.4).as_path()


def run(objective, first, last):
    """Losses of a run: eight samples a time, from a field that does not change."""
    field = WithFraction(gaussian(PATH), lambda t: 0.3)
    out = []
    for k in range(first, last):
        noise = Streams(0, range(8 * k, 8 * k + 8))
        x = noise.purpose("data").normal(1).double()
        out.append(objective(field, Batch(x), noise))
    return out


def test_a_pause_changes_nothing():
    whole = Variational(None, times=LossHistory(4))
    losses = run(whole, 0, 20)
    first, second = (Variational(None, times=LossHistory(4)) for _ in range(2))
    run(first, 0, 11)
    assert first.times.warm
    saved = first.state()
    run(first, 11, 13)  # what comes later does not reach into what was saved
    second.load_state(saved)
    rest = run(second, 11, 20)
    for a, b in zip(losses[11:], rest, strict=True):
        assert torch.equal(a.per_sample, b.per_sample)
        assert torch.equal(a.t, b.t)
    assert all(torch.equal(whole.state()[k], second.state()[k]) for k in ("losses", "counts"))


def test_what_is_noted_is_the_loss_without_its_weight():
    objective = Variational(None, times=LossHistory(2))
    objective.times.probabilities(5)
    objective.times.losses[:] = torch.tensor([1.0, 8.0, 1.0, 1.0, 1.0], dtype=F64)[:, None]
    objective.times.counts[:] = 2
    made = run(objective, 0, 1)[0]
    term = (made.t * 5).round().long()
    chance = torch.tensor([1.0, 8.0, 1.0, 1.0, 1.0], dtype=F64) / 12 * 0.999 + 0.0002
    plain = made.per_sample * 5 * chance[term - 1]
    last = {int(n): float(value) for n, value in zip(term, plain, strict=True)}
    for n, value in last.items():
        position = (int(objective.times.counts[n - 1]) - 1) % 2
        assert float(objective.times.losses[n - 1, position]) == pytest.approx(value)


def test_on_average_it_is_the_bound_all_the_same():
    field = WithFraction(gaussian(PATH), lambda t: 0.3)
    history = filled([1.0, 0.3, 2.0, 1.0, 0.5], keep=10)
    n = 4000
    noise = Streams(5, range(n))
    x = noise.purpose("data").normal(1).double()
    values = [
        Variational(None, times=times)(field, Batch(x), noise.rewound()).per_sample
        for times in (history, Variational().times)
    ]
    gap = values[0].mean() - values[1].mean()
    error = math.hypot(*(float(v.std()) for v in values)) / math.sqrt(n)
    assert abs(float(gap)) < 4 * error


def test_what_does_not_fit_is_refused():
    for uniform in (0.0, 1.5):
        with pytest.raises(InvalidArgument, match="uniform is"):
            LossHistory(uniform=uniform)
    with pytest.raises(InvalidArgument, match="keep is 0"):
        LossHistory(0)
    history = filled([1.0, 2.0])
    with pytest.raises(InvalidArgument, match="history of 2 steps"):
        history.probabilities(3)
    with pytest.raises(DataError, match="no loss history of 5"):
        LossHistory(5).load_state(history.state())
    with pytest.raises(DataError, match="no loss history"):
        LossHistory(5).load_state({})
