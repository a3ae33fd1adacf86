import math

import pytest
from torch import nn

from tests.training.tiny import tiny, training_of
from unnoise.training import build_optimizers, rate_at


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("network", [[], ["network.kind=mlp", "network.width=16"]])
def test_every_parameter_is_trained_by_exactly_one(kind, network):
    training = training_of(tiny(f"train.optimizer.kind={kind}", *network))
    groups = [g for part in training.leader.optimizers.parts for g in part.param_groups]
    held = [p.data_ptr() for g in groups for p in g["params"]]
    wanted = [p.data_ptr() for p in training.denoiser.network.parameters()]
    assert sorted(held) == sorted(wanted)
    assert len(set(held)) == len(held)


def test_muon_takes_matrices_and_adamw_the_rest_without_decay():
    network = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 5), nn.LayerNorm(5))
    config = tiny(
        "train.optimizer.weight_decay=0.1", "train.optimizer.rate=0.03",
        "train.optimizer.adam_rate=0.004",
    ).train.optimizer  # fmt: skip
    muon, adam = build_optimizers(network, config).parts
    assert [tuple(m.shape) for m in muon.matrices] == [(5, 3)]
    assert (muon.param_groups[0]["lr"], muon.param_groups[0]["weight_decay"]) == (0.03, 0.1)
    assert len(adam.param_groups[0]["params"]) == 4  # look-up, bias, gain, shift
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["weight_decay"]) == (0.004, 0)
    only = build_optimizers(
        network, tiny("train.optimizer={kind: adamw, weight_decay: 0.1}").train.optimizer
    )
    matrices, rest = only.parts[0].param_groups
    assert [p.ndim for p in matrices["params"]] == [2]
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.1, 0)


def test_frozen_parameters_are_left_out():
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    network[0].requires_grad_(False)
    parts = build_optimizers(network, tiny().train.optimizer).parts
    assert sum(len(g["params"]) for p in parts for g in p.param_groups) == 2


def test_scale_is_of_the_configured_rate_not_of_the_last():
    optimizers = build_optimizers(nn.Linear(3, 3), tiny().train.optimizer)
    for _ in range(3):
        optimizers.scale(0.5)
    assert [p.param_groups[0]["lr"] for p in optimizers.parts] == [0.01, 0.001]


def test_the_rate_over_a_run():
    cosine = tiny("train.warmup=0.2").train
    assert rate_at(0.0, cosine) == 0
    assert rate_at(0.1, cosine) == pytest.approx(0.5)
    assert rate_at(0.2, cosine) == pytest.approx(1)
    assert rate_at(0.6, cosine) == pytest.approx(0.5)
    assert rate_at(0.4, cosine) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert rate_at(1.0, cosine) == pytest.approx(0, abs=1e-12)
    linear = tiny("train.warmup=0", "train.schedule=linear").train
    assert [rate_at(s, linear) for s in (0, 0.25, 1)] == [1, 0.75, 0]
    constant = tiny("train.warmup=0.5", "train.schedule=constant").train
    assert [rate_at(s, constant) for s in (0.25, 0.5, 1)] == [0.5, 1, 1]
    assert rate_at(1.0, tiny("train.warmup=1").train) == pytest.approx(1)
