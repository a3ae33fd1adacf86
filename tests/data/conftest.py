"""What the tests of the data room share."""

import numpy as np
import pytest
from PIL import Image

from tests.mnist import mnist5k_or_skip


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def mnist5k(tmp_path_factory):
    """The real digits, from here or from the package index; skips with the reason otherwise."""
    return mnist5k_or_skip(tmp_path_factory)


@pytest.fixture
def save(tmp_path):
    """save(name, picture or array, **options) writes a picture below tmp_path / "pictures"."""

    def write(name, picture, **options):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        picture.save(path, **options)
        return path

    write.folder = tmp_path / "pictures"
    return write


@pytest.fixture
def arrow(cache):
    return pytest.importorskip("pyarrow", reason="parquet is read by pyarrow")
