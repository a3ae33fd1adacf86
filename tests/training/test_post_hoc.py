"""Averages made after training against the true ones, on weights that are known."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from unnoise.errors import ArtifactError, InvalidArgument
from unnoise.training.averages import Averages, due
from unnoise.training.ema import Ema
from unnoise.training.post_hoc import mix_of

UPDATES = 240


def stored_at(snapshots, gammas=(6.94, 16.97), updates=UPDATES):
    return [(g, updates * (k + 1) // snapshots) for k in range(snapshots) for g in gammas]


def averaged(w, gamma, after):
    """The power average of w₁ … w_after, in float64."""
    k = np.arange(after + 1) / after
    return np.diff(k ** (gamma + 1)) @ w[:after]


def trajectories():
    """Weights that walk at random, go straight, and oscillate fast."""
    g = np.random.default_rng(0)
    k = np.arange(1, UPDATES + 1)
    return {
        "walk": g.standard_normal((UPDATES, 5)).cumsum(0) / UPDATES**0.5,
        "line": np.outer(k / UPDATES, [1.0, -2.0]),
        "fast": np.sin(k)[:, None],
    }


@pytest.mark.parametrize("kind", ["walk", "line", "fast"])
@pytest.mark.parametrize("gamma", [3.0, 9.0, 12.0, 20.0])
def test_a_length_that_was_not_stored(kind, gamma):
    w = trajectories()[kind]
    errors = []
    for snapshots in (4, 8, 16):
        stored = stored_at(snapshots)
        mixture = mix_of(stored, gamma, UPDATES, reach=1)
        made = sum(
            share * averaged(w, g, after)
            for share, (g, after) in zip(mixture.shares, stored, strict=True)
        )
        error = np.abs(made - averaged(w, gamma, UPDATES)).max()
        # what is misplaced cannot weigh more than the whole range of the weights
        assert error <= 2 * mixture.misplaced * np.ptp(w, axis=0).max() + 1e-9
        errors.append((error, mixture.misplaced))
    assert errors[-1][1] < 0.01
    for (_, more), (_, less) in itertools.pairwise(errors):
        assert less < more / 2.5  # falls fast with the number of moments
    assert errors[-1][0] < 0.01 * np.ptp(w, axis=0).max()


@pytest.mark.parametrize("gamma", [6.94, 16.97])
def test_a_stored_length_is_itself(gamma):
    mixture = mix_of(stored_at(8), gamma, UPDATES)
    wanted = [1.0 if pair == (gamma, UPDATES) else 0.0 for pair in stored_at(8)]
    np.testing.assert_allclose(mixture.shares, wanted, atol=1e-8)
    assert mixture.misplaced < 1e-8
    assert mixture.apart < 1e-8


def test_the_shares_are_the_least_squares_in_closed_form():
    # two averages, shares s and 1 − s: the integrals of products of powers are known
    stored, gamma = [(2.0, 100), (8.0, 100)], 4.0

    def product(a, b):
        return (a + 1) * (b + 1) / (a + b + 1)

    top = product(2, 4) - product(8, 4) - product(2, 8) + product(8, 8)
    s = top / (product(2, 2) - 2 * product(2, 8) + product(8, 8))
    mixture = mix_of(stored, gamma, 100, reach=1)
    np.testing.assert_allclose(mixture.shares, [s, 1 - s], atol=1e-10)
    rest = np.array([s, 1 - s, -1.0])
    grams = np.array([[product(a, b) for a in (2, 8, 4)] for b in (2, 8, 4)])
    assert mixture.apart == pytest.approx((rest @ grams @ rest / product(4, 4)) ** 0.5, rel=1e-8)


def test_weights_that_stand_still_stay_as_they_are():
    for gamma in (3.0, 11.0, 22.0):
        assert sum(mix_of(stored_at(8), gamma, UPDATES, reach=1).shares) == pytest.approx(1, 1e-12)


@pytest.mark.parametrize("gamma", [0, -3.0, float("nan"), float("inf"), True, 0.5, 60.0, 1e6])
def test_lengths_out_of_reach_are_refused(gamma):
    with pytest.raises(InvalidArgument, match="gamma"):
        mix_of(stored_at(8), gamma, UPDATES)
    with pytest.raises(InvalidArgument, match="averages"):
        mix_of([], 6.0, UPDATES)


def run_of(folder, gammas=(2.0, 9.0), every=1, moments=(10, 20, 30, 40)):
    """(the layer's weights by update, what was stored): a walk of two parameters."""
    layer = nn.Linear(3, 2)
    averages = [Ema(layer.parameters(), gamma=g, every=every) for g in gammas]
    g = torch.Generator().manual_seed(0)
    walked, store = [], Averages(folder)
    for step in range(1, max(moments) + 1):
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(torch.randn(p.shape, generator=g), alpha=0.1)
        walked.append(layer.weight.detach().double().flatten().numpy().copy())
        for average in averages:
            average.update()
        if step in moments:
            store.save(averages, layer, step)
    return np.stack(walked), store


def test_through_files(tmp_path):
    walked, _ = run_of(tmp_path)
    found, mixture, updates = Averages(tmp_path).of(5.0)
    assert (updates, found.keys()) == (40, {"weight", "bias"})
    error = np.abs(found["weight"].flatten().numpy() - averaged(walked, 5.0, 40)).max()
    assert error < mixture.misplaced * np.ptp(walked, axis=0).max() + 1e-6
    exact, mixture, _ = Averages(tmp_path).of(9.0)
    np.testing.assert_allclose(
        exact["weight"].flatten().numpy(), averaged(walked, 9.0, 40), atol=2e-6
    )


def test_what_is_stored_later_than_where_a_run_goes_on_is_forgotten(tmp_path):
    run_of(tmp_path)
    store = Averages(tmp_path)
    store.forget(25)
    assert [e["step"] for e in Averages(tmp_path).stored] == [10, 20]
    assert len(list((tmp_path / "averages").glob("*.safetensors"))) == 2
    assert store.of(9.0)[2] == 20
    layer = nn.Linear(3, 2)
    store.save([Ema(layer.parameters(), gamma=g) for g in (2.0, 9.0)], layer, 15)
    assert [e["step"] for e in Averages(tmp_path).stored] == [10, 15]


def test_damage_is_named(tmp_path):
    run_of(tmp_path)
    file = tmp_path / "averages" / "step-00000040.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match="step-00000040"):
        Averages(tmp_path).of(5.0)
    index = tmp_path / "averages" / "index.json"
    index.write_text(index.read_text().replace("step-00000040.safetensors", "../x"))
    with pytest.raises(ArtifactError, match="index"):
        Averages(tmp_path)
    with pytest.raises(ArtifactError, match=r"train\.averages"):
        Averages(tmp_path / "nowhere").of(5.0)


def test_moments_are_equal_shares_of_the_run():
    shares = [k / 37 for k in range(38)]
    hits = [b for a, b in itertools.pairwise(shares) if due(a, b, 4)]
    assert len(hits) == 4
    assert hits[-1] == 1
    assert all(0 <= hit - (k + 1) / 4 < 1 / 37 for k, hit in enumerate(hits))
