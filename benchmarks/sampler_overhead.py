"""The cost of a sampler's step beside the network, in time and in memory, ours and the peers'.

    python benchmarks/sampler_overhead.py [--quick] [--out FOLDER]

The network returns one constant tensor, in the lens that each code takes (ε for diffusers and for
ours, x0 for k-diffusion and azula, so that no peer pays for a conversion). The unit is two
in-place operations on the state, x·a + b·v: one DDIM step written by hand. Peers are driven by the
loop of their own documentation; the preparation of diffusers' schedulers is timed apart and
subtracted, while ours is timed with all that a call of `solve` does. One thread, the CPU time of
this process, turns taken; a ratio is the median of each round's own.

Memory is the peak of the bytes that tensors hold beyond the given state, in units of the state:
once with a new tensor for every network output ("with answer"), once with the constant.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

import side_by_side as bench
from contest.k_diffusion_peers import sampling
from live_bytes import peak

from unnoise.fields import Field, Prediction
from unnoise.paths import VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get

STEPS = 100
STATES = {"1×3×32×32": (1, 3, 32, 32), "8×3×64×64": (8, 3, 64, 64)}
UNIT = "two operations"
OURS = (
    "ddim", "euler", "dpmpp_2m", "dpm_2m", "heun", "unipc:order=1", "unipc", "dpmpp_3m", "lms",
    "ddpm", "dpmpp_2m_sde",
)  # fmt: skip
WANTED = {"ddim": 1.8, "euler": 1.8, "dpmpp_2m": 2.6}  # wanted ratios on the small state
DIFFUSERS = {
    "DDIMScheduler": {},
    "EulerDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
}
Answer = Callable[[], Tensor]  # returns the network's output


class Runner(NamedTuple):
    """run(x, answer, steps), and the part of it that is preparation."""

    run: Callable[[Tensor, Answer, int], object]
    prepare: Callable[[int], object] | None = None


class Constant(Field):
    """A field that returns the tensor it is given, in the eps lens."""

    def __init__(self, answer: Answer) -> None:
        self.path, self.answer = VPLinear(), answer

    def __call__(self, x_t, t, condition=None):
        return Prediction(x_t, t, self.path, "eps", self.answer())


def by_hand(x: Tensor, answer: Answer, steps: int) -> Tensor:
    """Return the state after DDIM steps written by hand: two in-place operations each."""
    y, value = x.clone(), answer()
    for _ in range(steps):
        y.mul_(0.99).add_(value, alpha=0.01)
    return y


def ours(name: str) -> Runner:
    """Return the runner of one of our solvers."""
    solver = get(name)
    spans: dict[int, Tensor] = {}

    def run(x: Tensor, answer: Answer, steps: int) -> object:
        if steps not in spans:
            spans[steps] = grids.log_snr(VPLinear(), steps, 1.0, 0.01)
        noise = Streams(0, range(len(x))) if solver.stochastic else None
        return solver.solve(Constant(answer), x, spans[steps], noise)

    return Runner(run)


def of_diffusers(name: str) -> Runner:
    """Return the runner of a scheduler of diffusers."""
    import diffusers

    diffusers.logging.set_verbosity_error()
    scheduler = getattr(diffusers, name)(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)

    def run(x: Tensor, answer: Answer, steps: int) -> Tensor:
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            x = scheduler.step(answer(), t, scheduler.scale_model_input(x, t)).prev_sample
        return x

    return Runner(run, scheduler.set_timesteps)


def of_k_diffusion(name: str) -> Runner:
    """Return the runner of a sampler of k-diffusion."""
    module = sampling()

    def run(x: Tensor, answer: Answer, steps: int) -> Tensor:
        sigmas = module.get_sigmas_karras(steps, 0.01, 80.0)
        return getattr(module, name)(lambda x, sigma: answer(), x, sigmas, disable=True)

    return Runner(run, lambda steps: module.get_sigmas_karras(steps, 0.01, 80.0))


def of_azula(name: str, **options: int) -> Runner:
    """Return the runner of a sampler of azula."""
    from azula import denoise, noise, sample

    class Denoiser(denoise.Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = noise.VPSchedule()
            self.answer: Answer | None = None

        def forward(self, x_t: Tensor, t: Tensor, **_) -> denoise.DiracPosterior:
            assert self.answer is not None
            return denoise.DiracPosterior(self.answer())

    denoiser = Denoiser()

    def run(x: Tensor, answer: Answer, steps: int) -> Tensor:
        denoiser.answer = answer
        walker = getattr(sample, name)(denoiser, start=1.0, stop=0.01, steps=steps, silent=True,
                                       **options)  # fmt: skip
        return walker(x)

    return Runner(run)


def runners() -> dict[str, Runner]:
    """Return every runner by name."""
    found = {UNIT: Runner(by_hand), **{name: ours(name) for name in OURS}}
    found |= {f"diffusers {name.removesuffix('Scheduler')}": of_diffusers(name)
              for name in DIFFUSERS}  # fmt: skip
    found |= {f"k-diffusion {name}": of_k_diffusion(name)
              for name in ("sample_euler", "sample_dpmpp_2m", "sample_heun")}  # fmt: skip
    found |= {f"azula {name}": of_azula(name) for name in ("DDIMSampler", "EulerSampler")}
    found |= {f"azula {name}(2)": of_azula(name, order=2) for name in ("zABSampler", "xEABSampler")}
    return found


def spent(every: dict[str, Runner], shape: tuple[int, ...], rounds: int) -> dict[str, list[float]]:
    """Return seconds a step, of each runner in each round, without its preparation."""
    torch.manual_seed(0)  # azula and diffusers draw from it
    x, value = Streams(0, [0]).normal(2, *shape).unbind(1)
    x, value = x[0].contiguous(), value[0].contiguous()
    runs: dict[str, Callable[[], object]] = {}
    for name, one in every.items():
        runs[name] = lambda one=one: one.run(x, lambda: value, STEPS)
        if one.prepare:
            runs[f"{name} prepared"] = lambda one=one: one.prepare(STEPS)
    with torch.no_grad():
        times = bench.rounds(runs, rounds, warm=2)
    return {
        name: [
            (whole - less) / STEPS
            for whole, less in zip(
                times[name], times.get(f"{name} prepared", [0.0] * rounds), strict=True
            )
        ]
        for name in every
    }


def memory(one: Runner, steps: int = 8) -> tuple[float, float]:
    """Return the peak memory in units of the state, with a tensor a network output and without."""
    x, value = Streams(0, [0]).normal(2, *STATES["8×3×64×64"]).unbind(1)
    x, value = x[0].contiguous(), value[0].contiguous()
    one.run(x, lambda: value, steps)  # makes plans and tables
    return tuple(
        round(peak(lambda answer=answer: one.run(x, answer, steps), x, value) / x.nbytes, 2)
        for answer in (value.clone, lambda: value)
    )  # type: ignore[return-value]


def main() -> None:
    """Measure all runners, print the tables, write the result."""
    args = bench.arguments(__doc__)
    torch.set_num_threads(1)
    every = runners()
    held = {name: memory(one) for name, one in every.items()}
    result: dict[str, object] = {"steps": STEPS, "unit": UNIT, "wanted": WANTED, "states": {}}
    for label, shape in STATES.items():
        rounds = 2 if args.quick else 60 if shape[0] == 1 else 15
        times = spent(every, shape, rounds)
        ratios = bench.ratio(times, UNIT)
        rows = [
            {
                "sampler": name,
                "µs a step": bench.Spread.of(t * 1e6 for t in times[name]).median,
                "ratio": ratios[name],
                "wanted": WANTED.get(name) if shape[0] == 1 else None,
                "states with answer": held[name][0],
                "without": held[name][1],
            }
            for name in every
        ]
        print(f"\n{label}, {rounds} rounds of {STEPS} steps")
        print(bench.table(rows))
        kept = [{**row, "ratio": row["ratio"].rounded()} for row in rows]  # type: ignore[attr-defined]
        result["states"] |= {label: {"rounds": rounds, "rows": kept}}  # type: ignore[operator]
    print("\nheun looks twice a step; ddpm and dpmpp_2m_sde draw a state of normal numbers a step")
    bench.write("sampler_overhead", result, args.out)


if __name__ == "__main__":
    main()
