"""The errors of a model by noise level, beside those of two linear predictors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...artifacts import Model
from ...data.conditions import ClassCondition
from ...fields import Condition, determinant, residual
from ...objectives import Uniform
from ...paths import GaussianPath
from ...randomness import Streams
from ...recipes import build_objective

COUNT = 8  # noise levels examined


@dataclass(frozen=True)
class LevelErrors:
    """Errors at times t (levels,), over those of the trivial predictor; the same in every lens.

    The trivial predictor uses the mean and the variance of the data and nothing else. loss: of the
    model; error: its standard error; linear: of the best linear predictor, which uses the
    covariance too; null, wrong: of the model without its condition, and with another class;
    null_error, wrong_error: standard errors of their differences to loss; effect: distance of the
    outputs with the two classes, over the root of the trivial error. The last five are None for a
    model without conditions.
    """

    t: Tensor
    loss: Tensor
    error: Tensor
    linear: Tensor
    null: Tensor | None = None
    wrong: Tensor | None = None
    wrong_error: Tensor | None = None
    null_error: Tensor | None = None
    effect: Tensor | None = None

    @property
    def mean(self) -> float:
        """The geometric mean of the loss over the levels; infinite if one is not a number."""
        mean = float(self.loss.clamp(min=1e-12).log().mean().exp())
        return mean if mean == mean else float("inf")


@torch.no_grad()
def measure_levels(
    model: Model, linear: LinearBaseline, x0: Tensor, condition: Condition | None, seed: int
) -> LevelErrors:
    """Return the errors on x0 (n, *event), at `COUNT` quantiles of the recipe's training times.

    linear: the predictor fitted to training data; condition: that of x0, or None.
    """
    denoiser, path = model.denoiser, model.denoiser.path
    objective = build_objective(model.recipe.objective, denoiser.data_std)
    times = getattr(objective, "times", None)
    middle = (torch.arange(COUNT, dtype=torch.float64) + 0.5) / COUNT
    quantile = getattr(times, "quantile", None) or Uniform().quantile
    t = quantile(path, middle).unique()
    noise = Streams(seed, range(len(x0)), "doctor")
    shown = condition if model.conditions else None
    other = None if shown is None else _another(model, shown)
    found: dict[str, list[Tensor]] = {}
    for k, at in enumerate(t):
        eps = noise.purpose(f"level {k}").normal(*x0.shape[1:])
        x_t = path.diffuse(x0, eps, at)
        trivial, known = linear.errors(path, at, x0, x_t)
        lens = float(determinant(path, denoiser.predicts, at) / path.sigma(at)) ** 2
        unit = trivial * lens

        def evaluate(condition: Condition | None, x_t: Tensor = x_t, at: Tensor = at) -> Tensor:
            """Return the network's own output at (x_t, at), in batches of 256."""
            parts = [
                denoiser(x_t[r], at, None if condition is None else condition[r]).value
                for r in torch.arange(len(x_t)).split(256)
            ]
            return torch.cat(parts)

        def missed(value: Tensor, eps: Tensor = eps, at: Tensor = at) -> Tensor:
            miss = residual(path, denoiser.predicts, value, x0, eps, at)
            return miss.double().square().flatten(1).mean(1)

        prediction = evaluate(shown)
        share = missed(prediction) / unit
        rows = {"loss": share.mean(), "error": share.std() / len(share) ** 0.5}
        rows["linear"] = known / trivial
        if other is not None and shown is not None:
            wrong, null = evaluate(other), evaluate(shown.null())
            other_class = missed(wrong) / unit
            rows["wrong"] = other_class.mean()
            rows["wrong_error"] = (other_class - share).std() / len(share) ** 0.5
            bare = missed(null) / unit
            rows["null"] = bare.mean()
            rows["null_error"] = (bare - share).std() / len(share) ** 0.5
            rows["effect"] = ((wrong - prediction).double().square().mean() / unit).sqrt()
        for name, value in rows.items():
            found.setdefault(name, []).append(value)
    return LevelErrors(t, **{name: torch.stack(values) for name, values in found.items()})


def _another(model: Model, condition: Condition) -> Condition:
    """Return a condition that is wrong for every sample: other classes, other samples' vectors."""
    values: dict[str, Any] = {}
    for name, value in condition.values.items():
        assert isinstance(value, Tensor)
        meaning = model.conditions[name]
        if isinstance(meaning, ClassCondition):
            count = len(meaning.names)
            values[name] = (value + 1 + value % max(1, count - 1)) % count
        else:
            values[name] = value.roll(max(1, len(value) // 2), 0)
    return Condition(values, condition.keep)


class LinearBaseline:
    """The best linear predictor of x0 from x_t, for the covariance of `train` (n, *event).

    Directions come from one half of the values and the variances along them from the other, so
    that few values of many dimensions do not flatter it.
    """

    def __init__(self, train: Tensor) -> None:
        flat = train.flatten(1).double()
        self.mean = flat.mean(0)
        self.variance = float((flat - self.mean).square().mean())
        first, second = (flat - self.mean)[::2][:512], (flat - self.mean)[1::2][:512]
        _, _, basis = torch.linalg.svd(first, full_matrices=False)
        self.basis = basis.T
        inside = second @ self.basis
        self.variances = inside.square().mean(0)
        left = flat.shape[1] - self.basis.shape[1]
        outside = second.square().sum(1).mean() - self.variances.sum()
        self.rest = float(outside / left) if left else 0.0

    def power_outside(self, x: Tensor, keep: int) -> Tensor:
        """Return the mean square (n,) of each x outside the leading `keep` directions."""
        centred = x.flatten(1).double() - self.mean
        inside = centred @ self.basis[:, :keep]
        return (centred.square().sum(1) - inside.square().sum(1)) / centred.shape[1]

    def errors(
        self, path: GaussianPath, t: Tensor, x0: Tensor, x_t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mean squared errors in x0 of the trivial predictor and of this one, at time t.

        The trivial predictor uses the mean, and one variance for all directions.
        """
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        seen = x_t.flatten(1).double() - alpha * self.mean
        wanted = x0.flatten(1).double() - self.mean

        def gain(variance: Tensor) -> Tensor:
            """Return the Wiener gain α·v / (α²·v + σ²) for data of variance v."""
            return alpha * variance / (alpha**2 * variance + sigma**2)

        rest = gain(torch.tensor(self.rest).double())
        guess = rest * seen + ((seen @ self.basis) * (gain(self.variances) - rest)) @ self.basis.T
        blind = gain(torch.tensor(self.variance).double()) * seen
        return (blind - wanted).square().mean(), (guess - wanted).square().mean()
