"""What the README's Python makes is what it says."""

import torch

from . import shell
from .pages import ROOT, blocks


def test_the_examples_make_what_they_say(here):
    names: dict = {}
    for block in blocks(ROOT / "README.md"):
        if block.language == "python":
            exec(shell.small(block.text), names)
    assert names["images"].shape == (16, 1, 8, 8)
    assert names["images"].dtype == torch.uint8
    solver, grid = names["solvers"].get("dpmpp_2m"), names["grid"]
    made = solver.solve(names["field"], names["x"], grid).x
    assert float(grid[0]) == 1
    assert abs(float(made.mean()) - 0.5) < 0.15  # of the mixture: 0.4·(−1) + 0.6·1.5
    assert names["training"].step == names["training"].config.steps
    assert names["model"].sample(2).values.shape == (2, 1, 8, 8)


def test_the_first_screen_says_how_to_begin():
    text = (ROOT / "README.md").read_text("utf-8")
    first = text[:2500]
    for word in ("make demo", "make test", "unnoise train --data", "unnoise sample"):
        assert word in first, word
    assert "Fréchet distance ÷ floor" in text  # the measured card
    assert len(text.splitlines()) < 200
