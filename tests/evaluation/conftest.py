"""Real digits, in the demo's three parts, with the classifier that ships."""

from types import SimpleNamespace

import pytest

from tests.mnist import mnist5k_or_skip
from unnoise.data import open_digits
from unnoise.evaluation import shipped_classifier


@pytest.fixture(scope="session")
def mnist(tmp_path_factory):
    """Train, validation, test of MNIST-5k; skips with the reason where it cannot be had."""
    data = mnist5k_or_skip(tmp_path_factory)
    parts = data.split({"train": 4000, "validation": 500, "test": 500}, seed=0)
    return SimpleNamespace(**parts, features=shipped_classifier("mnist5k"))


@pytest.fixture(scope="session")
def digits():
    """Train and test of the 8×8 digits."""
    return SimpleNamespace(**open_digits().split({"train": 1200, "test": 400}, seed=0))
