"""The convention of a diffusers network: path, lens, clock and scaling of its input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidArgument, Unsupported, unknown
from ...fields import Prediction
from ...fields.lenses import require_lens
from ...guidance import Clip, Threshold, X0Rule
from ...guidance.thresholds import reshaped
from ...paths import EDM, Chain, Flow, GaussianPath, as_time, expand

LENS_OF = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}
CLOCKS = ("chain", "flow", "edm")
_BETAS = {
    "linear": Chain.linear,
    "scaled_linear": Chain.scaled_linear,
    "sigmoid": Chain.sigmoid,
}


@dataclass(frozen=True)
class Convention:
    """The way to call a diffusers network at (x_t, t) of `path`, and the meaning of its output.

    predicts: the lens of its output; a velocity with the clock "flow" is dx/dσ = ε − x0 whatever
    the shift. clock: the number that it takes for t: "chain" n − 1 = t·T − 1, "flow" T·σ(t),
    "edm" ¼·log σ(t), with T = `steps`. sigma_data: if given, the network is EDM's F with
    D = c_skip·x + c_out·F and takes c_in·x (Karras et al. 2022, table 1). clip: x0 is clamped to
    ±clip; threshold: x0 has dynamic thresholds, (quantile, largest), see `guidance.Threshold`;
    ε follows from that x0. learned_variance: the second half of the output's channels is ignored.

    Raises InvalidArgument for unknown names and for clip beside threshold, Unsupported if the lens
    cannot be predicted.
    """

    path: GaussianPath
    predicts: str = "eps"
    clock: str = "chain"
    steps: int = 1000
    sigma_data: float | None = None
    clip: float | None = None
    learned_variance: bool = False
    threshold: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and self.threshold is not None:
            raise InvalidArgument(
                f"clip is {self.clip!r} and threshold {self.threshold!r}; give one of them"
            )
        _ = self.rule  # raises for impossible limits
        if self.clock not in CLOCKS:
            raise unknown("clock", self.clock, CLOCKS)
        if self.sigma_data is None:
            require_lens(self.path, self.predicts)
        elif self.predicts not in ("eps", "v") or self.clock != "edm":
            raise InvalidArgument(
                f"preconditioning with predicts={self.predicts!r} and clock={self.clock!r}; EDM's "
                "needs 'eps' or 'v' and the clock 'edm'"
            )

    @property
    def rule(self) -> X0Rule | None:
        """Return the function applied to x0: clipping, dynamic thresholds, or None."""
        if self.threshold is not None:
            return Threshold(*self.threshold)
        return None if self.clip is None else Clip(self.clip)

    def timestep(self, t: Tensor | float) -> Tensor:
        """Return the network's number for times t, float64."""
        t = as_time(t).double()
        if self.clock == "chain":
            number = t * self.steps - 1
            near = number.round()
            return torch.where((number - near).abs() <= 1e-9 * (1 + near.abs()), near, number)
        sigma = self.path.sigma(t)
        return self.steps * sigma if self.clock == "flow" else 0.25 * sigma.log()

    def time(self, timestep: Tensor | float) -> Tensor:
        """Return the times of these numbers; the inverse of `timestep`."""
        number = as_time(timestep).double()
        if self.clock == "chain":
            return (number + 1) / self.steps
        if self.clock == "flow":
            share = number / self.steps
            return self.path.time(torch.log1p(-share) - share.log())
        return self.path.time(-4 * number)

    def scaled(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the network's input for x_t."""
        if self.sigma_data is None:
            return x
        return x * expand((self.path.sigma(t) ** 2 + self.sigma_data**2).rsqrt(), x)

    def read(self, output: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """Return the network's output at (x_t, t) as a Prediction."""
        if self.learned_variance and output.shape[1] == 2 * x.shape[1]:
            output = output.chunk(2, dim=1)[0]
        output, lens = output.to(x.dtype), self.predicts
        if self.sigma_data is not None:
            sigma, data = self.path.sigma(as_time(t).double()), self.sigma_data
            total = sigma**2 + data**2
            gain = sigma * data * total.rsqrt() * (1 if lens == "eps" else -1)
            output = expand(data**2 / total, x) * x + expand(gain, x) * output
            lens = "x0"
        elif self.clock == "flow" and lens == "velocity":
            output = expand(self.path.sigma_rate(as_time(t).double()), x) * output
        prediction = Prediction.of(lens, output, x, t, self.path)
        return prediction if self.rule is None else reshaped(prediction, self.rule)

    def output_of(self, prediction: Prediction) -> Tensor:
        """Return the network's output for a Prediction.

        The inverse of `read` (without preconditioning).
        """
        value = prediction.as_lens(self.predicts)
        if self.clock == "flow" and self.predicts == "velocity":
            value = value / expand(self.path.sigma_rate(as_time(prediction.t).double()), value)
        return value

    @staticmethod
    def from_config(config: Mapping[str, Any], mu: float | None = None) -> Convention:
        """Return the convention of a diffusers scheduler's config.

        Chains by their β (linear, scaled_linear, squaredcos_cap_v2, sigmoid, trained_betas;
        rescale_betas_zero_snr), flow matching by its shift (mu: for use_dynamic_shifting), EDM by
        sigma_max and sigma_data. Keys that only choose the steps (spacing, karras sigmas, order)
        belong to the sampler and are ignored. Raises Unsupported for a config without equivalent,
        with the reason.
        """
        name = str(config.get("_class_name", ""))
        for key, remedy in _REFUSED.items():
            if config.get(key):
                raise Unsupported(f"{name or 'the scheduler'} has {key}={config[key]!r}; {remedy}")
        steps = int(config.get("num_train_timesteps", 1000))
        kind = str(config.get("prediction_type") or "epsilon")
        is_flow = bool(config.get("use_flow_sigmas")) or (
            "shift" in config and "beta_schedule" not in config
        )
        if kind not in LENS_OF:
            raise unknown("prediction_type", kind, LENS_OF, Unsupported)
        kept = _kept(config)
        if is_flow or kind == "flow_prediction":
            return Convention(_flow(config, mu), "velocity", "flow", steps, **kept)
        if mu is not None:
            raise InvalidArgument(f"mu is {mu!r}, and {name or 'this config'} is no flow; drop it")
        if "sigma_data" in config:
            return Convention(
                EDM(float(config.get("sigma_max", 80.0))),
                LENS_OF[kind],
                "edm",
                steps,
                float(config["sigma_data"]),
                **kept,
            )
        learned = str(config.get("variance_type", "")).startswith("learned")
        chain = chain_of(config)
        path = chain.as_path()
        return Convention(
            path, LENS_OF[kind], "chain", chain.steps, learned_variance=learned, **kept
        )


_REFUSED = {"invert_sigmas": "its times run the other way; set invert_sigmas=False"}


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return clip or threshold of a scheduler's config, of which thresholds take precedence."""
    if config.get("thresholding"):
        share = float(config.get("dynamic_thresholding_ratio", 0.995))
        return {"threshold": (share, float(config.get("sample_max_value", 1.0)))}
    if config.get("clip_sample"):
        return {"clip": float(config.get("clip_sample_range", 1.0))}
    return {}


def chain_of(config: Mapping[str, Any]) -> Chain:
    """Return the chain of the β in a scheduler's config, in float64."""
    if config.get("trained_betas") is not None:
        chain = Chain(tuple(float(beta) for beta in config["trained_betas"]))
    else:
        kind, steps = config.get("beta_schedule"), int(config.get("num_train_timesteps", 1000))
        if kind == "squaredcos_cap_v2":
            chain = Chain.cosine(steps)
        elif kind in _BETAS:
            first, last = float(config["beta_start"]), float(config["beta_end"])
            chain = _BETAS[kind](steps, first, last)
        else:
            name = config.get("_class_name", "the scheduler")
            if kind is None:
                raise Unsupported(
                    f"{name} has no beta_schedule, sigma_data or shift; known are the schedulers "
                    "of β chains, FlowMatch… and EDM…"
                )
            raise unknown(
                f"beta_schedule of {name}", kind, [*_BETAS, "squaredcos_cap_v2"], Unsupported
            )
    return chain.with_zero_terminal_snr() if config.get("rescale_betas_zero_snr") else chain


def _flow(config: Mapping[str, Any], mu: float | None) -> GaussianPath:
    """Return the straight path, shifted: σ = s·t/(1 + (s − 1)·t)."""
    shift = float(config.get("shift", config.get("flow_shift", 1.0)) or 1.0)
    if config.get("use_dynamic_shifting"):
        if mu is None:
            raise InvalidArgument(
                "use_dynamic_shifting is set, so that the shift depends on the picture's size; "
                "pass mu, the exponent that the pipeline would"
            )
        shift = float(torch.tensor(mu, dtype=torch.float64).exp())
        if config.get("time_shift_type", "exponential") == "linear":
            shift = float(mu)
    elif mu is not None:
        raise InvalidArgument(f"mu is {mu!r}, and use_dynamic_shifting is off; drop mu")
    return Flow() if shift == 1 else Flow().shifted(shift**-2)
