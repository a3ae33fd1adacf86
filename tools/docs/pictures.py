"""The pictures of docs/concepts, drawn from fields known in closed form.

    python tools/docs/pictures.py              all of them, into docs/pictures
    python tools/docs/pictures.py lenses       one of them

Every curve is computed by the library: nothing is sketched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from unnoise import Streams, fields, paths, solvers
from unnoise.fields import Condition, Field
from unnoise.guidance import classifier_free

OUT = Path(__file__).resolve().parents[2] / "docs" / "pictures"
F64 = torch.float64
BLUE, ORANGE, GREEN, RED, GREY = "#3465a4", "#e07b00", "#2e8b57", "#b22222", "#888888"
STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
    "legend.frameon": False, "legend.fontsize": 8, "figure.constrained_layout.use": True,
}  # fmt: skip
PICTURES: dict[str, Callable[[], Figure]] = {}


def picture(make: Callable[[], Figure]) -> Callable[[], Figure]:
    """Register a function whose figure is drawn into a file of the function's name."""
    PICTURES[make.__name__] = make
    return make


def two_humps(path: paths.GaussianPath) -> fields.Mixture:
    """Return 0.4·N(−1, 0.3²) + 0.6·N(1.5, 0.2²)."""
    means = torch.tensor([[-1.0], [1.5]], dtype=F64)
    return fields.Mixture(torch.tensor([0.4, 0.6], dtype=F64), means, [0.09, 0.04], path)


def ring(path: paths.GaussianPath, first: int = 0, step: int = 1) -> fields.Mixture:
    """Return eight equal spots on a circle, or every `step`-th of them from `first`."""
    angle = torch.arange(first, 8, step, dtype=F64) * torch.pi / 4
    means = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    return fields.Mixture(torch.ones(len(angle), dtype=F64), means, [0.03] * len(angle), path)


def _line(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every (x, t) of a grid of points: (len(t)·len(x), 1) and the times of its rows."""
    return x.repeat(len(t))[:, None], t.repeat_interleave(len(x))


@picture
def forward() -> Figure:
    """Draw the density of x_t over t on two paths, with a few (x0, ε) carried along."""
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.5), sharey=True)
    t, x = torch.linspace(0.001, 1, 160, dtype=F64), torch.linspace(-3.2, 3.2, 200, dtype=F64)
    for axis, path in zip(axes, (paths.VPLinear(), paths.Flow()), strict=True):
        field = two_humps(path)
        density = torch.stack([field.log_density(x[:, None], at).exp() for at in t], 1)
        axis.imshow(
            density.clamp(max=1.2), extent=(0, 1, -3.2, 3.2), origin="lower", aspect="auto",
            cmap="Blues", interpolation="bilinear",
        )  # fmt: skip
        x0 = field.sample(Streams(3, range(9)))
        eps = Streams(3, range(9), "eps").normal(1).double()
        lines = torch.stack([path.diffuse(x0, eps, at)[:, 0] for at in t])
        axis.plot(t, lines, color=ORANGE, linewidth=0.7)
        axis.set(title=f"{type(path).__name__}: x_t = α(t)·x0 + σ(t)·ε", xlabel="t", xlim=(0, 1))
    axes[0].set_ylabel("x_t")
    return figure


@picture
def forward_2d() -> Figure:
    """Draw 2,000 exact samples of p_t at five times."""
    figure, axes = plt.subplots(1, 5, figsize=(7.4, 1.75), sharex=True, sharey=True)
    field = ring(paths.Flow())
    for axis, at in zip(axes, (0.0, 0.2, 0.4, 0.7, 1.0), strict=True):
        x = field.sample(Streams(0, range(1500)), at)
        axis.scatter(*x.T, s=0.6, color=BLUE, linewidths=0)
        axis.set(title=f"t = {at:g}", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal")
        axis.set(xticks=[], yticks=[])
    return figure


@picture
def all_paths() -> Figure:
    """Draw α, σ and log-SNR of every named path."""
    figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.6))
    t = torch.linspace(0.002, 0.998, 300, dtype=F64)
    known = {
        "VPLinear": paths.VPLinear(), "SubVP": paths.SubVP(), "Cosine": paths.Cosine(),
        "Trigonometric": paths.Trigonometric(), "Flow": paths.Flow(), "EDM": paths.EDM(),
    }  # fmt: skip
    for name, path in known.items():
        dashed = "--" if name == "EDM" else "-"
        axes[0].plot(t, path.alpha(t), dashed, linewidth=1.1, label=name)
        axes[1].plot(t, path.sigma(t).clamp(max=1.6), dashed, linewidth=1.1)
        axes[2].plot(t, path.log_snr(t), dashed, linewidth=1.1)
    axes[0].set(title="signal α(t)", xlabel="t")
    axes[1].set(title="noise σ(t)", xlabel="t", ylim=(0, 1.5))
    axes[2].set(title="log-SNR λ = log(α/σ)", xlabel="t", ylim=(-8, 8))
    axes[0].legend(loc="lower left", fontsize=6.5)
    return figure


@picture
def lenses() -> Figure:
    """Draw one prediction of the two humps, at three times, through the five lenses."""
    figure, axes = plt.subplots(1, 5, figsize=(7.4, 1.9), sharex=True)
    field, x = two_humps(paths.VPLinear()), torch.linspace(-3, 3, 301, dtype=F64)
    for at, colour in ((0.12, BLUE), (0.3, GREEN), (0.6, ORANGE)):
        prediction = field(x[:, None], torch.tensor(at, dtype=F64))
        for axis, lens in zip(axes, fields.LENSES, strict=True):
            values = prediction.as_lens(lens)[:, 0]
            axis.plot(x, values, color=colour, linewidth=1.1, label=f"t = {at}")
            axis.set(title=lens, xlabel="x_t")
            axis.axhline(0, color=GREY, linewidth=0.4)
    axes[0].legend(loc="upper left", fontsize=6.5, handlelength=1)
    return figure


@picture
def trajectories() -> Figure:
    """Draw the trajectories of four solvers in eight steps, the exact curves behind."""
    figure, axes = plt.subplots(1, 4, figsize=(7.4, 2.1), sharex=True, sharey=True)
    path = paths.Flow()
    field, start = ring(path), 0.995
    x = path.prior(Streams(5, range(14)), (2,)).double()
    fine = _states(field, solvers.get("rk4"), x, 160, start)
    for axis, name in zip(axes, ("euler", "dpmpp_2m", "unipc", "ddpm"), strict=True):
        chosen = x[:4] if solvers.get(name).stochastic else x
        coarse = _states(field, solvers.get(name), chosen, 8, start)
        axis.plot(fine[..., 0], fine[..., 1], color=GREY, linewidth=0.5)
        axis.plot(coarse[..., 0], coarse[..., 1], color=BLUE, linewidth=0.8)
        axis.scatter(*coarse[-1].T, s=7, color=ORANGE, zorder=3)
        axis.set(title=f"{name}, 8 steps", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
        axis.set(xticks=[], yticks=[])
    return figure


def _states(
    field: Field, solver: solvers.Solver, x: torch.Tensor, steps: int, start: float
) -> torch.Tensor:
    """Return every state of a trajectory on a log-SNR grid, (steps + 1, n, *event)."""
    grid = paths.grids.log_snr(field.path, steps, start=start, end=0.005)
    seen: dict[int, torch.Tensor] = {}
    noise = Streams(1, range(len(x)))

    def record(step: int, prediction: fields.Prediction) -> None:
        seen.setdefault(step, prediction.x_t.clone())

    last = solver.solve(field, x, grid, noise, record).x
    return torch.stack([*(seen[k] for k in sorted(seen)), last])


@picture
def orders() -> Figure:
    """Draw the error against nfe on the two humps, where the exact end is known."""
    figure, axis = plt.subplots(figsize=(5.2, 3.2))
    path = paths.VPLinear()
    field, noise = two_humps(path), Streams(0, range(200))
    x = path.prior(noise, (1,)).double()
    exact = _end(field, solvers.get("rk4"), x, 1500)[0]
    named = {"ddim": BLUE, "heun": GREEN, "dpmpp_2m": ORANGE, "dpmpp_3m_exact": RED, "unipc": GREY}
    for name, colour in named.items():
        reached = [_end(field, solvers.get(name), x, n) for n in (4, 6, 8, 12, 16, 24, 32, 48, 64)]
        misses = [float((y - exact).abs().mean()) for y, _ in reached]
        axis.loglog([p for _, p in reached], misses, "o-", ms=3, lw=1.1, color=colour, label=name)
    axis.set(xlabel="network passes a sample", ylabel="mean distance from the exact end")
    axis.set_xticks([4, 8, 16, 32, 64, 128], ["4", "8", "16", "32", "64", "128"])
    axis.minorticks_off()
    axis.legend()
    return figure


def _end(
    field: Field, solver: solvers.Solver, x: torch.Tensor, steps: int
) -> tuple[torch.Tensor, int]:
    made = solver.solve(field, x, paths.grids.log_snr(field.path, steps, start=1.0, end=0.01))
    return made.x, made.nfe


@picture
def grids() -> Figure:
    """Draw the ten steps of each grid, in t and in log-SNR, on the flow path."""
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.3), sharey=True)
    path, names = paths.Flow(), ("uniform", "quadratic", "log_snr", "karras")
    for row, name in enumerate(names):
        options = {"start": 0.99, "end": 0.005} if name != "karras" else {}
        grid = paths.grid_for(path, name, 10, **options)
        inner = grid[(path.sigma(grid) > 0) & (path.alpha(grid) > 0)]
        axes[0].plot(grid, [row] * len(grid), "o-", ms=4, lw=0.6, color=BLUE)
        axes[1].plot(path.log_snr(inner), [row] * len(inner), "o-", ms=4, lw=0.6, color=ORANGE)
    axes[0].set(title="times t of ten steps", xlabel="t", xlim=(1.02, -0.02))
    axes[0].set_yticks(range(len(names)), names)
    axes[1].set(title="the same in log-SNR", xlabel="λ = log(α/σ)")
    return figure


class TwoClasses(Field):
    """Even spots of the ring are class 0, odd ones class 1; the null condition is all of them."""

    def __init__(self, path: paths.GaussianPath) -> None:
        self.path = path
        self.classes, self.whole = [ring(path, 0, 2), ring(path, 1, 2)], ring(path)

    def __call__(self, x_t, t, condition=None):
        whole = self.whole(x_t, t)
        condition = Condition.of(condition, len(x_t))
        prediction = torch.stack([field(x_t, t).value for field in self.classes])
        given = prediction[condition.values["class"].expand(len(x_t)), torch.arange(len(x_t))]
        return whole.with_value("x0", torch.where(condition.keep[:, None], given, whole.value))


@picture
def guidance() -> Figure:
    """Draw samples of class 0 under four guidance scales."""
    figure, axes = plt.subplots(1, 4, figsize=(7.4, 2.1), sharex=True, sharey=True)
    path = paths.VPLinear()
    x = path.prior(Streams(2, range(500)), (2,)).double()
    grid = paths.grids.log_snr(path, 40, end=0.002)
    for axis, scale in zip(axes, (0.0, 1.0, 2.0, 6.0), strict=True):
        field = classifier_free(TwoClasses(path), scale).conditioned({"class": 0})
        made = solvers.get("dpmpp_2m").solve(field, x, grid).x
        axis.scatter(*ring(path, 0, 2).sample(Streams(9, range(800))).T, s=1, color="#d8dee8")
        axis.scatter(*made.T, s=1.2, color=BLUE, linewidths=0)
        axis.set(title=f"scale {scale:g}", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
        axis.set(xticks=[], yticks=[])
    return figure


@picture
def flow_map() -> Figure:
    """Draw the jump from noise to data, as a function of the noise, for 1, 2, 4 and 64 steps."""
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.7))
    path = paths.Flow()
    field = two_humps(path)
    x = torch.linspace(-2.6, 2.6, 261, dtype=F64)[:, None]
    for steps, colour in ((1, GREY), (2, GREEN), (4, ORANGE), (64, BLUE)):
        jump = solvers.SolverFlowMap(solvers.get("heun"), field, steps)
        axes[0].plot(x[:, 0], jump(x, 0.999, 0.0)[:, 0], color=colour, lw=1.1, label=f"{steps}")
    axes[0].legend(title="steps inside", title_fontsize=8)
    axes[0].set(title="x_0 as a function of x_1", xlabel="x_1", ylabel="x_0")
    start = torch.linspace(-2.2, 2.2, 12, dtype=F64)[:, None]
    jump = solvers.SolverFlowMap(solvers.get("heun"), field, 48)
    times = torch.linspace(0.999, 0.0, 60, dtype=F64).tolist()
    states = torch.stack([jump(start, 0.999, s)[:, 0] for s in times])
    axes[1].plot(times, states, color=BLUE, lw=0.8)
    axes[1].set(title="one map, any end s: x_1 → x_s", xlabel="s", xlim=(1, 0))
    return figure


def main(names: list[str], out: Path = OUT) -> None:
    """Draw the pictures of these names, or all."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        with plt.rc_context(STYLE):
            figure = PICTURES[name]()
            figure.savefig(out / f"{name}.png", dpi=110, metadata={"Software": None})
            plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
