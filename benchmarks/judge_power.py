"""How often the learned two-sample test tells faulty samples from data.

    python benchmarks/judge_power.py [--quick]

Real values that the networks have not seen, with one planted fault, in the place of samples:
MNIST-5k (3,000 training values, 500 reference values, 1,000 samples) and vectors. The bound is the
accuracy of the best possible test, where it is known. The seconds are of the whole test, with its
floor: eight networks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from unnoise.data import load_data
from unnoise.evaluation import Judge, learned_test

RESULT = Path(__file__).parent / "results" / "judge_power.json"


def phase_scrambled(values: Tensor, rng: np.random.Generator) -> Tensor:
    """Return pictures with the amplitudes of their spectrum and random phases."""
    wide = values.double().numpy()
    phases = np.angle(np.fft.fft2(rng.normal(size=wide.shape)))
    found = np.fft.ifft2(np.abs(np.fft.fft2(wide)) * np.exp(1j * phases)).real
    return as_bytes(found * np.sign(found.mean((-2, -1), keepdims=True)))


def patch_shuffled(values: Tensor, rng: np.random.Generator, side: int = 7) -> Tensor:
    """Return pictures whose patches are in random order."""
    n, c, high, wide = values.shape
    rows, across = high // side, wide // side
    tiles = values.reshape(n, c, rows, side, across, side).permute(0, 2, 4, 1, 3, 5)
    tiles = tiles.reshape(n, rows * across, c, side, side)
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(rows * across), (n, 1)), axis=1))
    mixed = torch.stack([tiles[i, order[i]] for i in range(n)])
    mixed = mixed.reshape(n, rows, across, c, side, side).permute(0, 3, 1, 4, 2, 5)
    return mixed.reshape(values.shape)


def blotches(values: Tensor, rng: np.random.Generator) -> Tensor:
    """Return smooth noise with each picture's own histogram, so its own mean and contrast."""
    wide = values.flatten(1).numpy()
    noise = gaussian_filter(rng.normal(size=values.shape), (0, 0, 2, 2)).reshape(wide.shape)
    ranks = noise.argsort(1).argsort(1)
    return torch.from_numpy(np.take_along_axis(np.sort(wide, 1), ranks, 1)).reshape(values.shape)


def as_bytes(values: np.ndarray) -> Tensor:
    """Return values rounded and cut to bytes."""
    return torch.from_numpy(np.round(values).clip(0, 255).astype(np.uint8))


def contrast(values: Tensor, scale: float) -> Tensor:
    """Return pictures whose values are scaled about zero and cut at 255."""
    return as_bytes(values.double().numpy() * scale)


def clamped(values: Tensor) -> Tensor:
    """Return pictures of a tenth too much range about the middle, cut at the ends."""
    return as_bytes((values.double().numpy() - 127.5) * 1.1 + 127.5)


def blurred(values: Tensor, sigma: float = 0.5) -> Tensor:
    """Return pictures with a slight Gaussian blur."""
    return as_bytes(gaussian_filter(values.double().numpy(), (0, 0, sigma, sigma)))


def repeated(values: Tensor, distinct: int, rng: np.random.Generator) -> Tensor:
    """Return as many pictures, of which few are distinct."""
    return values[torch.from_numpy(rng.integers(distinct, size=len(values)))]


def without(values: Tensor, labels: Tensor, missing: list[int], rng: np.random.Generator) -> Tensor:
    """Return values in which those of missing classes are replaced by others."""
    gone = torch.isin(labels, torch.tensor(missing))
    keep = torch.nonzero(~gone)[:, 0]
    found = values.clone()
    chosen = torch.from_numpy(rng.integers(len(keep), size=int(gone.sum())))
    found[gone] = values[keep[chosen]]
    return found


def eight(n: int, rng: np.random.Generator, scale: float = 1.0) -> Tensor:
    """Return a mixture of eight narrow Gaussians on a circle."""
    angle = rng.integers(8, size=n) * np.pi / 4
    centres = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return torch.from_numpy(scale * (centres + 0.1 * rng.normal(size=(n, 2)))).float()


def best(scale: float, draws: int = 200_000) -> float:
    """Return the best possible accuracy for `eight` of a wrong scale, by Monte Carlo."""
    rng = np.random.default_rng(0)
    angle = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)

    def log_density(x: np.ndarray, size: float) -> np.ndarray:
        near = np.square(x[:, None] - size * centres).sum(-1) / (2 * (0.1 * size) ** 2)
        return np.log(np.exp(-near).sum(1) + 1e-300) - 2 * np.log(size)

    real, made = (eight(draws, rng, s).double().numpy() for s in (1.0, scale))
    right = [log_density(x, 1.0) > log_density(x, scale) for x in (real, made)]
    return 0.5 * float(right[0].mean() + 1 - right[1].mean())


def pictures(rng: np.random.Generator) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the faults of pictures by name."""
    return {
        "real against real": lambda x, y: x,
        "phases scrambled": lambda x, y: phase_scrambled(x, rng),
        "patches shuffled": lambda x, y: patch_shuffled(x, rng),
        "blotches": lambda x, y: blotches(x, rng),
        "contrast 10 % too low": lambda x, y: contrast(x, 0.9),
        "contrast 10 % too high": lambda x, y: contrast(x, 1.1),
        "clamped ends": lambda x, y: clamped(x),
        "slight blur": lambda x, y: blurred(x),
        "50 distinct": lambda x, y: repeated(x, 50, rng),
        "sevens missing": lambda x, y: without(x, y, [7], rng),
        "five classes missing": lambda x, y: without(x, y, [5, 6, 7, 8, 9], rng),
    }


def vectors(rng: np.random.Generator) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return train, samples and reference of vectors by name."""
    mix = rng.normal(size=(64, 64)) / 8

    def wide(n: int) -> Tensor:
        return torch.from_numpy(np.tanh(rng.normal(size=(n, 64)) @ mix)).float()

    far = eight(1000, rng) * 1.1
    return {
        "2-D: real against real": (eight(3000, rng), eight(1000, rng), eight(500, rng)),
        "2-D: scale 10 % too large": (eight(3000, rng), far, eight(500, rng)),
        "2-D: clamped ends": (eight(3000, rng), eight(1000, rng).clamp(-1.7, 1.7), eight(500, rng)),
        "2-D: 50 distinct": (eight(3000, rng), repeated(eight(1000, rng), 50, rng),
                             eight(500, rng)),
        "64-D: real against real": (wide(3000), wide(1000), wide(500)),
        "64-D: scale 10 % too large": (wide(3000), wide(1000) * 1.1, wide(500)),
    }  # fmt: skip


BOUNDS = {"sevens missing": 0.55, "five classes missing": 0.75}


def main() -> None:
    """Measure every fault, print the table, write the result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="small budgets; nothing is written")
    parser.add_argument("--only", help="only the faults whose name holds this")
    parser.add_argument("--width", type=int, default=Judge().width)
    parser.add_argument("--seen", type=int, default=Judge().seen)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    judge = Judge(width=options.width, seen=600 if options.quick else options.seen)
    rng = np.random.default_rng(0)
    data = load_data("mnist5k").split({"train": 3000, "samples": 1000, "reference": 500}, seed=0)
    train, drawn, held = (data[key] for key in ("train", "samples", "reference"))
    cases = {
        name: (train.values, fault(torch.as_tensor(drawn.values), torch.as_tensor(drawn.labels)),
               held.values)
        for name, fault in pictures(rng).items()
    } | vectors(rng)  # fmt: skip
    bounds = {**BOUNDS, "2-D: scale 10 % too large": round(best(1.1), 3)}
    rows = []
    for name, sides in cases.items():
        if options.only and options.only not in name:
            continue
        shapes = [False, True] if sides[0].ndim == 4 else [False]
        row: dict[str, object] = {"samples": name}
        for shape in shapes:
            begun = time.perf_counter()
            found = learned_test(*sides, judge=judge, shape=shape)
            spent = round(time.perf_counter() - begun, 1)
            said = [round(v, 3) for v in (found.accuracy.value, found.accuracy.low,
                                          found.accuracy.high)]  # fmt: skip
            if shape:
                row |= {"by shape": said}
                continue
            row |= {
                "accuracy": said,
                "floor": round(found.accuracy.floor or 0, 3),
                "bound": bounds.get(name),
                "flawed": round(found.flawed.value, 3),
                "flawed floor": round(found.flawed.floor or 0, 3),
                "missed": round(found.missed.value, 3),
                "missed floor": round(found.missed.floor or 0, 3),
                "seconds": spent,
            }
        rows.append(row)
        print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    if options.quick or options.only:
        return
    result = {
        "torch": torch.__version__,
        "threads": options.threads,
        "judge": {"networks": judge.networks, "seen": judge.seen, "width": judge.width},
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
