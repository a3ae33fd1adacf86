"""The likelihood of held-out data under a trained model: a bound, or the probability flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..artifacts import Model
from ..data import Dataset, DataSpec, detect, load_data
from ..errors import DataError, InvalidArgument, need_count
from ..fields import Field
from ..likelihood import (
    Bound,
    Levels,
    Likelihood,
    continuous_bound,
    discrete_log_likelihood,
    log_likelihood,
    variational_bound,
)
from ..paths import ChainPath, grids
from ..randomness import Streams
from ..recipes import abilities, levels_of, without_null
from ..sampling import autocast
from .held_out import check_part, open_held_out
from .likelihood_report import LikelihoodReport

EXACT_UP_TO = 100  # numbers in an event for which the exact divergence is taken by default
BOUND_ONLY = ("steps", "continuous", "variance", "strata", "repeats")
FLOW_ONLY = ("method", "tol", "solver_steps", "exact", "probes")


def measure_likelihood(
    folder: str | Path,
    *,
    data: str | None = None,
    n: int = 100,
    part: str | None = None,
    bound: bool = False,
    steps: int | None = None,
    continuous: bool | None = None,
    variance: str | None = None,
    strata: int | None = None,
    repeats: int | None = None,
    method: str | None = None,
    tol: float | None = None,
    solver_steps: int | None = None,
    exact: bool | None = None,
    probes: int | None = None,
    conditional: bool | None = None,
    seed: int = 0,
    batch: int = 100,
    precision: str = "fp32",
    device: str = "auto",
    parts: Mapping[str, Dataset] | None = None,
    progress: Callable[[float], None] | None = None,
) -> LikelihoodReport:
    """Return the likelihood of the first n held-out samples under the model in `folder`.

    bound: take the variational bound instead of the probability flow; of every step of a chain, of
    `steps` steps, or (the default on other paths) `continuous`; variance: "posterior", "transition"
    or "learned", which is the default if the model learned one; strata, repeats: see
    `variational_bound`. Options of the flow: method and tol, or solver_steps; the exact divergence
    (the default up to 100 numbers an event) or Hutchinson's with `probes`. Values on levels are
    decoded by a discretised decoder in a bound and dequantised uniformly for the flow, so that both
    are about the levels' probability; a density of continuous data is in the data's own units.
    conditional: condition on the class (the default if the model has classes) or not. data: other
    data than the recipe's, in the form that `unnoise train --data` takes.

    Raises InvalidArgument for options of the method that is not used, DataError for data that are
    missing or do not fit, and the errors of the likelihoods.
    """
    requested = {
        "steps": steps, "continuous": continuous, "variance": variance, "strata": strata,
        "repeats": repeats, "method": method, "tol": tol, "solver_steps": solver_steps,
        "exact": exact, "probes": probes,
    }  # fmt: skip
    for name in FLOW_ONLY if bound else BOUND_ONLY:
        if requested[name] is not None:
            other = "the bound" if bound else "the probability flow"
            raise InvalidArgument(
                f"{name} is {requested[name]!r}, and {other} has no such option; leave it out, or "
                f"{'leave bound out' if bound else 'ask for the bound'}"
            )
    need_count("n", n)
    need_count("batch", batch)
    check_part(part)
    model = Model.load(folder, precision, device)
    given = _given(model, conditional)
    used, held = _data(model, data, part, parts, given)
    levels = levels_of(model.spec)
    work = _Bounded(model, levels, requested) if bound else _Flowed(model, levels, requested)
    count, place = min(n, len(held)), next(model.denoiser.parameters()).device
    noise = Streams(seed, range(count), "likelihood")
    made: list[Any] = []
    for at in range(0, count, batch):
        rows = torch.arange(at, min(at + batch, count))
        x = model.spec.normalise(held.raw(rows)).to(place)
        field_: Field = model.denoiser
        if given:
            columns = {name: column[rows] for name, column in held.columns.items()}
            condition = model.spec.prepare(columns)
            field_ = field_.conditioned(None if condition is None else condition.to(place))
        with autocast(model.precision, place):
            made.append(work(field_, x, noise[at : at + len(rows)]))
        if progress is not None:
            progress((at + len(rows)) / count)
    found = Bound.cat(made) if bound else None
    likelihood = found.likelihood if found is not None else Likelihood.cat(made)
    if levels is None:
        likelihood, found = _in_raw_units(likelihood, found, model.spec)
    return LikelihoodReport(
        likelihood,
        found,
        model.recipe.name,
        f"{used}, {count} of {len(held)} samples",
        _named(model) if given else "nothing",
        work.computed,
        _units(levels, model),
        {k: v for k, v in requested.items() if v is not None} | work.settings | {"seed": seed},
    )


class _Bounded:
    """The variational bound of a batch, by the given options."""

    def __init__(self, model: Model, levels: Levels | None, requested: dict[str, Any]) -> None:
        path, denoiser = model.denoiser.path, model.denoiser
        steps, continuous = requested["steps"], requested["continuous"]
        if steps is None and continuous is None:
            continuous = not isinstance(path, ChainPath)
        if continuous and (steps is not None or requested["variance"] is not None):
            raise InvalidArgument(
                "steps and variance are of a bound of steps, and continuous=True is of none; "
                "leave them out, or continuous=False"
            )
        counts = {k: v for k in ("strata", "repeats") if (v := requested[k]) is not None}
        options: dict[str, Any] = {"levels": levels, "data_std": denoiser.data_std} | counts
        if continuous:
            self.take: Callable[..., Bound] = continuous_bound
            self.computed = "variational bound, continuous time"
            self.settings: dict[str, Any] = {"continuous": True}
        else:
            variance = requested["variance"] or (
                "learned" if denoiser.learned_variance else "posterior"
            )
            grid: Tensor | None = None
            if steps is not None:
                need_count("steps", steps, 2)
                if isinstance(path, ChainPath):
                    grid = grids.trailing(path, steps)
                else:
                    grid = grids.uniform(steps)
            elif isinstance(path, ChainPath):
                steps = path.chain.steps
            self.take, self.settings = variational_bound, {"steps": steps, "variance": variance}
            self.computed = f"variational bound of {steps} steps, variance {variance}"
            options |= {"grid": grid, "variance": variance}
        self.options = options
        if requested["strata"] is not None:
            self.computed += f", Monte Carlo over {requested['strata']} strata"

    def __call__(self, field: Field, x: Tensor, noise: Streams) -> Bound:
        return self.take(field, x, noise, **self.options)


class _Flowed:
    """The log-likelihood of a batch through the probability flow, by the given options."""

    def __init__(self, model: Model, levels: Levels | None, requested: dict[str, Any]) -> None:
        exact = requested["exact"]
        if exact is None:
            exact = requested["probes"] is None and math.prod(model.spec.shape) <= EXACT_UP_TO
        if exact and requested["probes"] is not None:
            raise InvalidArgument(
                f"probes is {requested['probes']!r}, and the exact divergence draws none; leave it "
                "out, or exact=False"
            )
        self.levels, self.exact, self.std = levels, exact, model.denoiser.data_std
        self.options = {
            "method": requested["method"], "tol": requested["tol"],
            "steps": requested["solver_steps"], "probes": requested["probes"],
        }  # fmt: skip
        self.options = {k: v for k, v in self.options.items() if v is not None}
        divergence = "exact" if exact else "hutchinson"
        self.options |= {"divergence": divergence, "data_std": self.std}
        self.settings = {"divergence": divergence}
        self.computed = f"probability flow, {'exact' if exact else 'Hutchinson'} divergence"

    def __call__(self, field: Field, x: Tensor, noise: Streams) -> Likelihood:
        options = self.options if self.exact else self.options | {"noise": noise.purpose("probes")}
        if self.levels is None:
            return log_likelihood(field, x, **options)
        return discrete_log_likelihood(
            lambda x: log_likelihood(field, x, **options),
            x,
            self.levels,
            noise.purpose("dequantise"),
        )


def _given(model: Model, conditional: bool | None) -> bool:
    if conditional and not model.conditions:
        raise InvalidArgument(
            "a likelihood given the class was requested, and this model has none; leave it out"
        )
    given = bool(model.conditions) if conditional is None else conditional
    if model.conditions and not given and not abilities(model.recipe, model.spec).null:
        raise InvalidArgument(
            "a likelihood given nothing " + without_null("ask for that given the class")
        )
    return given


def _named(model: Model) -> str:
    return " and ".join(f"the {name}" for name in model.conditions)


def _data(
    model: Model,
    data: str | None,
    part: str | None,
    parts: Mapping[str, Dataset] | None,
    labelled: bool,
) -> tuple[str, Dataset]:
    if data is None:
        used, held, _ = open_held_out(model, part, 1, parts)
        return f"{model.spec.name} ({used} part)", held
    if part is not None:
        raise InvalidArgument(f"part {part!r} is of the recipe's data, and {data} is other data")
    source, path = detect(data)
    asked = {n: c.kind for n, c in model.conditions.items() if n != "class"} if labelled else {}
    options: dict[str, Any] = {"conditions": asked} if asked else {}
    held = load_data(source, **({} if path is None else {"path": path}), **options)
    spec = held.spec
    if (spec.shape, spec.dtype) != (model.spec.shape, model.spec.dtype):
        raise DataError(
            f"{data} holds {spec.dtype} of shape {spec.shape}, and the model is of "
            f"{model.spec.dtype} of shape {model.spec.shape}; bring them to the same"
        )
    for name, meaning in model.conditions.items() if labelled else ():
        found = spec.conditions.get(name)
        if found is None or not meaning.fits(found):
            raise DataError(
                f"{data} has {found or 'nothing'} as {name}, and the model {meaning}; ask for the "
                "likelihood given nothing (--unconditional)"
            )
    return data, held


def _in_raw_units(
    likelihood: Likelihood, bound: Bound | None, spec: DataSpec
) -> tuple[Likelihood, Bound | None]:
    """Return the density of raw = x·std + mean: −Σ log std nats on top of that of x."""
    each = math.prod(spec.shape) // len(spec.std)
    shift = each * sum(map(math.log, spec.std))
    likelihood = replace(likelihood, nats=likelihood.nats - shift)
    if bound is not None:
        reconstruction = bound.reconstruction + shift
        bound = replace(bound, reconstruction=reconstruction, likelihood=likelihood)
    return likelihood, bound


def _units(levels: Levels | None, model: Model) -> str:
    if levels is not None:
        return f"probability of values on {levels.count} levels"
    left = float(model.denoiser.path.sigma(0.0))
    noisy = "" if left == 0 else f"; the flow's is that of data with noise of σ = {left:g} added"
    return "density in the data's own units" + noisy
