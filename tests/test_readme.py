"""The README's Python runs as written."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    from unnoise import load_recipe, train

    folder = tmp_path_factory.mktemp("readme") / "runs" / "demo"
    recipe = load_recipe("digits", ["train.steps=2", "network.widths=[8]", "train.reports=1"])
    train(recipe, folder, quiet=True, tensorboard=False)
    return folder


def test_the_readme_has_examples():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.split("\n")[0])
def test_example_runs(block, tiny_run):
    names: dict = {}
    exec(block.replace('"runs/demo"', repr(str(tiny_run))), names)
    if "images" in names:
        assert names["images"].shape == (16, 1, 8, 8)
        assert names["images"].dtype == torch.uint8
    if "grid" in names:  # the mean of the mixture, 0.4·(−1) + 0.6·1.5
        mean = (
            names["solvers"]
            .get("dpmpp_2m")
            .solve(names["field"], names["x"], grid := names["grid"])
        )
        assert abs(float(mean.x.mean()) - 0.5) < 0.15
        assert float(grid[0]) == 1


def test_what_the_readme_points_to_is_there():
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link
    assert "Fréchet distance ÷ floor" in text  # the measured card
