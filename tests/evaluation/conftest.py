"""Real digits, in the demo's three parts, with the classifier that ships."""

from types import SimpleNamespace

import pytest

from unnoise.data import load_data, open_digits
from unnoise.errors import DataError
from unnoise.evaluation import shipped_classifier


@pytest.fixture(scope="session")
def mnist(tmp_path_factory):
    """Train, validation, test of MNIST-5k; skips with the reason where it cannot be had."""
    try:
        data = load_data("mnist5k")
    except DataError:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("UNNOISE_CACHE", str(tmp_path_factory.mktemp("mnist5k")))
                data = load_data("mnist5k", fetch=True)
        except DataError as error:
            pytest.skip(str(error))
    parts = data.split({"train": 4000, "validation": 500, "test": 500}, seed=0)
    return SimpleNamespace(**parts, features=shipped_classifier("mnist5k"))


@pytest.fixture(scope="session")
def digits():
    """Train and test of the 8×8 digits."""
    return SimpleNamespace(**open_digits().split({"train": 1200, "test": 400}, seed=0))
