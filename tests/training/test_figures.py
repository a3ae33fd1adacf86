import numpy as np
import pytest
from PIL import Image

from unnoise.errors import InvalidArgument
from unnoise.training.figures import loss_plot


def test_loss_by_noise_level_is_drawn(tmp_path):
    t = np.random.default_rng(0).uniform(size=500)
    path = loss_plot(t, (1 - t) ** 2, tmp_path / "loss.png", baseline=np.ones(500))
    assert Image.open(path).size == (720, 432)
    with pytest.raises(InvalidArgument, match="3 losses"):
        loss_plot(t, np.ones(3), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
