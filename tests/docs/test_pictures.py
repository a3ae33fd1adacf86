"""The pictures of the concepts: made by the script that is there, shown, small."""

import re

import numpy as np
import pytest
from PIL import Image

from tools.docs import pictures

from .pages import PAGES, ROOT

FOLDER = ROOT / "docs" / "pictures"
TEXT = "".join(page.read_text("utf-8") for page in PAGES)


def test_every_picture_is_made_shown_and_small():
    there = {path.stem for path in FOLDER.glob("*.png")}
    of_models = {"tutorial", "time_to_quality"}  # drawn by trained models
    assert there == set(pictures.PICTURES) | of_models
    for path in FOLDER.glob("*.png"):
        assert path.stat().st_size < 100_000, path
        assert re.search(rf"!\[[^\]]+\]\([./]*pictures/{path.name}\)", TEXT), f"{path} is not shown"


@pytest.mark.parametrize("name", ["lenses", "grids", "flow_map"])
def test_the_library_still_draws_it(name, tmp_path):
    """Drawn again it is the committed one, up to how letters and lines are rendered."""
    pictures.main([name], tmp_path)
    new, old = (Image.open(f / f"{name}.png").convert("L") for f in (tmp_path, FOLDER))
    assert new.size == old.size
    size = (new.width // 8, new.height // 8)
    new, old = (np.asarray(x.resize(size, Image.Resampling.BOX), float) for x in (new, old))
    assert np.abs(new - old).mean() < 2
    assert np.corrcoef(new.ravel(), old.ravel())[0, 1] > 0.97
