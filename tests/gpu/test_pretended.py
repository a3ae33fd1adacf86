"""The tests of a GPU, some of them here too: on a device that is pretended (tests/pretend_cuda.py).

PRETEND_GPU=1 python -m pytest tests/gpu    all that need no real one, in some minutes
"""

from __future__ import annotations

import pytest
import torch

from tests.gpu import test_sampling as sampling
from tests.gpu import test_training as training
from tests.pretend_cuda import CUDA, pretended


@pytest.fixture
def device(monkeypatch):
    with pretended(monkeypatch) as place:
        yield place


@pytest.mark.parametrize("kind", ["accumulated", "learned variance", "coupled"])
def test_training(device, kind):
    training.test_updates_are_those_of_the_cpu(device, kind)


@pytest.mark.parametrize(("what", "optimizer"), [("gradient", "adamw"), ("loss", "muon")])
def test_bad_updates(device, what, optimizer):
    training.test_a_bad_update_changes_nothing(device, what, optimizer)


def test_resuming(device, tmp_path):
    training.test_resuming_is_exact(device, tmp_path, ["train.optimizer.kind=adamw", training.MLP])


@pytest.mark.parametrize("name", ["ddpm", "dpmpp_2m", "sa_solver", "predictor_corrector"])
def test_solvers(device, name):
    sampling.test_exact_fields_in_float64(device, name)


def test_samples(device):
    sampling.test_samples_are_those_of_the_cpu(device, sampling.DIT, "dpmpp_2m")
    sampling.test_the_noise_is_bitwise_that_of_the_cpu(device)


def test_likelihoods_and_non_finite_numbers(device):
    sampling.test_likelihoods_of_a_network(device)
    sampling.test_numbers_that_break_down_are_named(device, "ddpm")


def test_the_pretended_device_refuses_what_a_real_one_refuses(device):
    there, here = torch.ones(3, device=device), torch.ones(3)
    assert (there.device, (there + 1).device, there.is_cuda) == (CUDA, CUDA, True)
    with pytest.raises(RuntimeError, match="cuda:0 and cpu"):
        there + here
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="cuda:0 and cpu"):
        torch.where(there > 0, here, there)
    assert torch.equal((there + torch.tensor(2.0)).cpu(), here + 2)  # a number of the host may
    assert there.sum().item() == 3
    layer = torch.nn.Linear(3, 1).to(device)
    layer(there).backward()
    assert layer.weight.grad.device == CUDA
    assert torch.equal(layer.weight.grad.cpu(), here[None])
