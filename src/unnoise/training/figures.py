"""The loss by noise level as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Num
from torch import Tensor

from ..errors import InvalidArgument


def loss_plot(
    t: Tensor | Num[np.ndarray, "..."],
    loss: Tensor | Num[np.ndarray, "..."],
    path: str | Path,
    *,
    baseline: Tensor | Num[np.ndarray, "..."] | None = None,
    bins: int = 20,
) -> Path:
    """Mean loss in bins of the noise level, with the central half of each bin, as a PNG.

    Arguments: `t` in [0, 1] (0 is data) and per-sample `loss`; `baseline` the loss of the best
    linear predictor of white data, at the same t. Raises
    InvalidArgument for arrays that do not fit.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    t, loss = np.asarray(t, np.float64).ravel(), np.asarray(loss, np.float64).ravel()
    if len(t) != len(loss) or not len(t) or bins < 1:
        raise InvalidArgument(
            f"{len(t)} noise levels, {len(loss)} losses, {bins} bins; give as many of both, and "
            "at least one bin"
        )
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.digitize(t, edges) - 1, 0, bins - 1)
    held = [b for b in range(bins) if (where == b).any()]
    centre = (edges[held] + edges[np.array(held) + 1]) / 2
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    quartiles = np.array([np.quantile(loss[where == b], [0.25, 0.75]) for b in held])
    axes.fill_between(centre, quartiles[:, 0], quartiles[:, 1], alpha=0.2, label="central half")
    axes.plot(centre, [loss[where == b].mean() for b in held], marker=".", label="mean")
    if baseline is not None:
        baseline = np.asarray(baseline, np.float64).ravel()
        means = [baseline[where == b].mean() for b in held]
        axes.plot(centre, means, linestyle="--", label="baseline")
    axes.set(xlabel="t (0 data, 1 noise)", ylabel="loss", xlim=(0, 1))
    axes.legend()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=120)
    return Path(path)
