"""train.recompute and train.compile: the same updates, or a refusal."""

import os

import pytest
import torch

from tests.training.tiny import tiny, training_of
from unnoise.errors import Unsupported
from unnoise.networks import Network
from unnoise.objectives import (
    Denoising,
    FiniteDifferenceScoreMatching,
    MaximumLikelihood,
    SlicedScoreMatching,
)
from unnoise.recipes.train_section import TrainConfig
from unnoise.training.prepare import prepare, worth_compiling

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    yield tmp_path
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)


def weights_after(training):
    losses = [float(update.loss) for update in training.updates()]
    return losses, {k: p.detach().clone() for k, p in training.denoiser.network.named_parameters()}


def test_recomputing_gives_the_same_updates():
    plain = training_of(tiny("train.steps=2"), double=True)
    again = training_of(tiny("train.steps=2", "train.recompute=true"), double=True)
    assert again.denoiser.network.recompute
    assert not plain.denoiser.network.recompute
    torch.testing.assert_close(weights_after(again), weights_after(plain), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("spelled", ["on", "true"])
def test_compiled_it_learns_the_same_even_where_compiling_fails(spelled, monkeypatch, cache):
    def raises(graph, example):
        raise ValueError("no such processor")

    plain = weights_after(training_of(tiny("train.steps=2", "train.compile=off"), double=True))
    training = training_of(tiny("train.steps=2", f"train.compile={spelled}"), double=True)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(cache / "compiled")
    monkeypatch.setattr(training.denoiser.network.compiled_call, "backend", raises)
    with pytest.warns(RuntimeWarning, match="train.compile=off") as said:
        got = weights_after(training)
    assert sum("train.compile" in str(w.message) for w in said) == 1
    torch.testing.assert_close(got, plain, rtol=1e-12, atol=1e-13)


def test_a_folder_that_was_chosen_for_compiled_code_is_kept(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    training_of(tiny("train.compile=on"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize(
    ("given", "device", "compiled"),
    [
        (dict(budget="2h"), CPU, False),
        (dict(budget="2h"), GPU, True),
        (dict(budget="5m"), GPU, False),
        (dict(steps=10_000), GPU, True),
        (dict(steps=9_999), GPU, False),
        (dict(steps=1, compile=True), CPU, True),
        (dict(budget="2h", compile=False), GPU, False),
    ],
)
def test_auto_compiles_where_the_run_wins_the_time_back(given, device, compiled):
    assert worth_compiling(TrainConfig(**given), device) is compiled


class Blockless(Network):
    def __init__(self):
        super().__init__({})


@pytest.mark.parametrize("key", ["recompute", "compile"])
@pytest.mark.parametrize("network", [Blockless(), torch.nn.Linear(2, 2)])
def test_a_network_without_blocks_is_refused(key, network):
    with pytest.raises(Unsupported, match=f"train.{key} is on, and {type(network).__name__}"):
        prepare(network, TrainConfig(steps=1, **{key: True}), Denoising(), CPU)
    prepare(network, TrainConfig(steps=1), Denoising(), CPU)


def test_second_derivatives_are_not_sent_through_compiled_blocks():
    network = training_of(tiny()).denoiser.network
    with pytest.raises(Unsupported, match=r"second derivatives.*train\.compile=off"):
        prepare(network, TrainConfig(steps=1, compile=True), SlicedScoreMatching(), CPU)
    with pytest.raises(Unsupported, match=r"MaximumLikelihood takes second derivatives"):
        prepare(network, TrainConfig(steps=1, compile=True), MaximumLikelihood(), CPU)
    prepare(network, TrainConfig(budget="2h"), SlicedScoreMatching(), GPU)
    assert network.compiled_call is None
    prepare(network, TrainConfig(steps=1, compile=True), FiniteDifferenceScoreMatching(), CPU)
    assert network.compiled_call is not None
