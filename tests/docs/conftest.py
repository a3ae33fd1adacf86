"""What a page's reader has: a trained run, pictures of their own; small stand-ins here."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from unnoise import Streams, load_recipe, measure, train


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """shared(name, make): a folder that make(folder) fills, once for all workers of a test run."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def folder_of(name, make):
        folder = root / name
        with FileLock(f"{folder}.lock"):
            if not (root / f"{name}.done").exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker where it failed
                folder.mkdir()
                make(folder)
                (root / f"{name}.done").touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """A folder with runs/demo (digits, two updates, measured) and photos/ (two classes)."""
    folder = tmp_path_factory.mktemp("stage")
    recipe = load_recipe("digits", ["train.steps=2", "network.widths=[8]", "train.reports=1"])
    train(recipe, folder / "runs" / "demo", quiet=True, tensorboard=False)
    measure(folder / "runs" / "demo", n=20, features="pca").save(folder / "runs" / "demo")
    for name in ("one", "two"):
        (folder / "photos" / name).mkdir(parents=True)
    for i in range(100):
        pixels = (40 + 160 * Streams(0, [i]).uniform(20, 24, 3)[0]).numpy().astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / ("one", "two")[i % 2] / f"{i:03d}.png")
    return folder


@pytest.fixture
def here(stage, tmp_path, monkeypatch):
    """A copy of it, for one page to change; the page runs inside."""
    folder = tmp_path / "here"
    shutil.copytree(stage, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return folder
