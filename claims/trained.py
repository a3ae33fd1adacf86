"""Claims about sampling from trained networks: steps, solvers, chance, guidance, four lenses."""

from __future__ import annotations

import torch

from unnoise.randomness import Streams

from .claim import FAILS, HOLDS, WHEN, Finding
from .models import PART, TRAINED, judge, mean_of, model, quality
from .registry import claim


@claim(
    "trained",
    "Salimans & Ho 2022; Principles of Diffusion Models, ch. 6",
    "Predicting x0, ε, v or the velocity are four views of the same field: trained on the same "
    "data, path and weight they agree.",
    TRAINED,
)
def four_lenses_learn_one_field() -> Finding:
    lenses, parts = ("x0", "eps", "v", "velocity"), judge()
    path = model("v").denoiser.path
    x0 = model("v").spec.normalise(parts.held)
    noise = Streams(3, range(len(x0)))
    t = 0.02 + 0.96 * noise.uniform()
    x_t = path.diffuse(x0, noise.normal(*x0.shape[1:]), t)
    given = {"class": parts.labels}
    with torch.no_grad():
        said = {n: model(n).denoiser(x_t, t, given).x0 for n in (*lenses, "v, other seed")}

    def rms(gap: torch.Tensor) -> float:
        return float(gap.square().mean().sqrt())

    pairs = [rms(said[a] - said[b]) for i, a in enumerate(lenses) for b in lenses[i + 1 :]]
    seeds = rms(said["v"] - said["v, other seed"])
    error = rms(said["v"] - x0)
    largest = max(pairs)
    return Finding(
        {
            "rms distance of x0 between two lenses, mean of 6 pairs": sum(pairs) / 6,
            "largest of the 6": largest,
            "between two seeds of one lens": seeds,
            "from the clean data (what no lens can know)": error,
        },
        HOLDS if largest < 2 * seeds and largest < 0.5 * error else FAILS,
        remark="Two lenses differ about as much as two seeds of one lens do.",
    )


@claim(
    "trained",
    "Song et al. 2021 (DDIM); introductions: “DDIM … 20 × faster”",
    "DDIM in 50 steps is about as good as 1,000-step ancestral sampling.",
    TRAINED,
)
def trained_ddim_50_as_ancestral_1000() -> Finding:
    few, many = quality("linear chain", "ddim", 50), quality("linear chain", "ddpm", 1000, 2)
    return Finding(
        {
            "DDIM, 50 passes: Fréchet ÷ floor": few.frechet,
            "ancestral, 1,000 passes": many.frechet,
            "class accuracy": few.accuracy,
            "class accuracy, 1,000": many.accuracy,
        },
        HOLDS if few.frechet.value < 1.25 * many.frechet.value else FAILS,
        remark="" if few.frechet.value < 1.25 * many.frechet.value else "DDIM at 50 is worse here",
    )


@claim(
    "trained",
    "Song et al. 2021 (DDIM), table 1",
    "DDIM is better than ancestral sampling at few steps, η between them lies between.",
    TRAINED,
)
def ddim_better_at_few_steps() -> Finding:
    names = {"DDIM": "ddim", "η = 0.5": "ddim:eta=0.5", "ancestral": "ddpm"}
    found = {
        f"{label}, {steps} steps: Fréchet ÷ floor": quality("linear chain", s, steps).frechet
        for steps in (5, 10)
        for label, s in names.items()
    }
    values = [v.value for v in found.values()]
    better = values[0] < values[2] and values[3] < values[5]
    between = values[0] < values[1] < values[2] and values[3] < values[4] < values[5]
    if better and between:
        return Finding(found, HOLDS)
    if better:
        remark = "DDIM is ahead of ancestral sampling; η = 0.5 is level with it or ahead."
        return Finding(found, WHEN, "η = 0 and 1 are compared", remark)
    return Finding(found, FAILS, remark="DDIM is not ahead of ancestral sampling here.")


@claim(
    "trained",
    "Song et al. 2021 (DDIM); “DDPM performs better when using the full chain”",
    "With many steps ancestral sampling is at least as good as DDIM.",
    TRAINED,
)
def ancestral_better_at_many_steps() -> Finding:
    found = {
        f"{label}, {steps} steps: Fréchet ÷ floor": quality("linear chain", s, steps, n).frechet
        for steps, n in ((100, 4), (250, 2))
        for label, s in (("DDIM", "ddim"), ("ancestral", "ddpm"))
    }
    values = list(found.values())
    better = values[3].value < values[2].value
    return Finding(
        found,
        HOLDS if better else FAILS,
        remark=""
        if better and values[3].high < values[2].low
        else "The two cannot be told apart at this size: both are at the floor of real data.",
    )


@claim(
    "trained",
    "Lu et al. 2022; Zhang & Chen 2023; Zhao et al. 2023",
    "DPM-Solver++, DEIS and UniPC at 10–20 steps are comparable with one another, and as good as "
    "DDIM at 50.",
    TRAINED,
)
def fast_solvers_comparable() -> Finding:
    found = {
        f"{label}, {steps} steps: Fréchet ÷ floor": quality("linear chain", name, steps).frechet
        for steps in (10, 20)
        for label, name in (("DPM-Solver++ 2M", "dpmpp_2m"), ("DEIS", "deis"), ("UniPC", "unipc"))
    }
    found["DDIM, 50 steps"] = quality("linear chain", "ddim", 50).frechet
    values = [v.value for v in found.values()]
    holds = max(values[3:6]) < 1.15 * values[6] and max(values[:3]) < 1.3 * min(values[:3])
    remark = "" if holds else "their Fréchet distances differ by more than a tenth"
    return Finding(found, HOLDS if holds else FAILS, remark=remark)


@claim(
    "trained",
    "Song et al. 2021 (DDIM), section 5.2",
    "The same latent gives the same high-level features whatever the number of DDIM steps.",
    TRAINED,
)
def trained_same_latent() -> Finding:
    by, trained = judge(), model("linear chain")

    def features(solver: str, steps: int, seed: int = 2):  # type: ignore[no-untyped-def]
        made = trained.sample(PART, solver=solver, steps=steps, seed=seed)
        return by.features.features(made.values)

    def apart(a, b):  # type: ignore[no-untyped-def]
        return mean_of(((a - b) ** 2).sum(1) ** 0.5)

    long = features("ddim", 200)
    unrelated = apart(long, features("ddim", 200, 3))
    found = {
        f"DDIM {n} against 200 steps, same latent": apart(features("ddim", n), long)
        for n in (10, 20, 50)
    }
    found["ancestral 50 against DDIM 200, same latent"] = apart(features("ddpm", 50), long)
    found["same class, other latent"] = unrelated
    values = [v.value for v in found.values()]
    holds = max(values[:3]) < 0.5 * values[4] and values[3] > 1.5 * max(values[1:3])
    return Finding(
        found,
        HOLDS if holds else FAILS,
        remark="" if holds else "distances in a classifier's features, class by class",
    )


@claim(
    "trained",
    "Ho & Salimans 2022",
    "A larger guidance scale follows the class more and is less diverse.",
    TRAINED,
)
def trained_guidance() -> Finding:
    found, accuracy, recall = {}, [], []
    for scale in (1.0, 2.0, 4.0):
        made = quality("flow", "dpmpp_2m", 20, guidance=scale)
        found[f"scale {scale:g}: class accuracy"] = made.accuracy
        found[f"scale {scale:g}: recall of held-out digits"] = made.recall
        accuracy.append(made.accuracy.value)
        recall.append(made.recall.value)
    holds = recall[0] > recall[1] > recall[2] and accuracy[2] >= accuracy[0]
    remark = "" if holds else "accuracy is near 1 at every scale, so that only diversity moves"
    return Finding(found, HOLDS if holds else FAILS, remark=remark)


@claim(
    "trained",
    "Liu et al. 2023; Lipman et al. 2023",
    "A flow-matching (straight) path needs fewer Euler steps than a variance-preserving one.",
    TRAINED,
)
def flow_needs_fewer_steps() -> Finding:
    found = {}
    for steps in (2, 4, 8):
        for label, name, solver in (
            ("flow, Euler", "flow", "euler"), ("VP linear chain, DDIM", "linear chain", "ddim"),
        ):  # fmt: skip
            made = model(name).sample(
                4 * PART, solver=solver, steps=steps, grid="uniform", seed=1, batch=PART
            )
            scores = [judge().frechet(v) for v in made.values.split(PART)]
            found[f"{label}, {steps} even steps: Fréchet ÷ floor"] = mean_of(scores)
    values = [v.value for v in found.values()]
    holds = all(values[i] < values[i + 1] for i in (0, 2, 4))
    return Finding(
        found,
        HOLDS if holds else FAILS,
        remark="each path with steps even in its own time, as its paper samples it",
    )
