"""One model for the room, never trained, and a folder of it to damage."""

import shutil

import pytest

from tests.training.tiny import model_of, tiny


@pytest.fixture(scope="session")
def model():
    """A class-conditional model of 8×8 digits that answers something."""
    return model_of(tiny())


@pytest.fixture(scope="session")
def saved(model, tmp_path_factory):
    """Where it is saved; not to be changed."""
    return model.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "copy")
