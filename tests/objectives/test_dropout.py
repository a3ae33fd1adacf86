"""Condition dropout: a share for each name, drawn from the stream of each sample."""

import math

import pytest
import torch

from unnoise.errors import InvalidArgument
from unnoise.fields import Condition
from unnoise.objectives import Denoising
from unnoise.objectives.dropout import drop_some
from unnoise.randomness import Streams

N = 20_000


def given(n=N):
    return Condition.of({"class": torch.zeros(n, dtype=torch.int64), "age": torch.zeros(n, 1)}, n)


def test_names_are_dropped_with_their_own_shares_and_independently():
    kept = drop_some(given(), {"class": 0.3, "age": 0.5}, Streams(0, range(N))).keep
    gone = {name: ~mask for name, mask in kept.items()}
    for mask, share in (
        (gone["class"], 0.3),
        (gone["age"], 0.5),
        (gone["class"] & gone["age"], 0.15),
    ):
        error = math.sqrt(share * (1 - share) / N)
        assert abs(float(mask.double().mean()) - share) < 4 * error
    one = drop_some(given(), {"age": 1.0}, Streams(0, range(N))).keep
    assert (bool(one["class"].all()), bool(one["age"].any())) == (True, False)


def test_what_is_dropped_is_a_function_of_the_sample_alone():
    whole = drop_some(given(), 0.4, Streams(3, range(N)))
    rows = range(500, 700)
    part = drop_some(given(200), 0.4, Streams(3, rows))
    for name in ("class", "age"):
        assert torch.equal(part.keep[name], whole.keep[name][500:700])
    # a class alone is dropped as it was when there was no other condition
    alone = Condition.of({"class": torch.zeros(N, dtype=torch.int64)}, N)
    before = Streams(3, range(N)).purpose("drop").uniform() >= 0.4
    assert torch.equal(drop_some(alone, 0.4, Streams(3, range(N))).keep["class"], before)
    assert torch.equal(whole.keep["class"], before)
    assert not torch.equal(whole.keep["age"], before)


def test_wrong_shares_and_names_are_refused():
    with pytest.raises(InvalidArgument, match="did you mean 'age'"):
        drop_some(given(4), {"agee": 0.1}, Streams(0, range(4)))
    for wrong in (1.5, {"age": -0.1}, {"age": math.nan}):
        with pytest.raises(InvalidArgument, match="give a share from 0 to 1"):
            Denoising(condition_dropout=wrong)
