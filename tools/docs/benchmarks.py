"""The page of benchmarks, from the results in benchmarks/results.

python tools/docs/benchmarks.py     docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"
Lines = list[str]
Tree = Mapping[str, Any]

INTRO = """# Benchmarks

<!-- made by tools/docs/benchmarks.py: run `make bench` instead of changing it -->

Everything here is measured side by side in one run, as a ratio, by one command:

    make bench

Each part prints its table and leaves `benchmarks/results/NAME.json`, from which this page is made.
Run a single one by its name. `--quick`, or `make bench OPTIONS=--quick` for all, takes seconds to
test that each runs, and does not change this page:

    python benchmarks/throughput.py --quick

**How to read it.** Contestants take turns on one thread, A B A B, and are timed by the CPU time of
their process; a ratio is the median of each round's own, with the quartiles in brackets. So a busy
neighbour slows both sides of a ratio alike, while milliseconds, images per second and shares of a
peak depend on the machine and its load. "Times" of a peer is the speed of ours over the peer's;
ours is faster above 1. A peer's default is the setting of its documentation: float32, eager. Its
other rows are faster settings that a user can choose.

**What is not claimed.** The ratios need not hold on another processor: the gain of bfloat16 depends
on the processor's arithmetic (a machine with AMX multiplies bfloat16 matrices several times faster
than the one below). A faster update is not a better model: the quality reached in equal time is
measured apart, under time to quality.

**On a GPU.** `make gpu` runs the tests marked `gpu`, then measures throughput, memory and the
demo's time to quality, in at most six minutes, and writes `benchmarks/results/gpu/*.json`; without
CUDA it states that and ends. The results are at the end of this page; without such a section,
nothing has been measured on a GPU yet.
"""


def page(folder: Path = RESULTS) -> str:
    """Return the text of docs/benchmarks.md; a part that has not been measured is left out."""
    lines = [INTRO]
    for name, section in SECTIONS.items():
        path = folder / f"{name}.json"
        if path.is_file():
            lines += [*section(json.loads(path.read_text("utf-8"))), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def table(rows: Sequence[Tree], columns: Sequence[str] | None = None) -> Lines:
    """Return a Markdown table, without columns that are empty throughout."""
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    columns = [c for c in columns if any(row.get(c) is not None for row in rows)]
    return [
        f"| {' | '.join(c.replace('_', ' ') for c in columns)} |",
        "|---" * len(columns) + "|",
        *(f"| {' | '.join(cell(row.get(c)) for c in columns)} |" for row in rows),
    ]


def cell(value: Any) -> str:
    """Format a cell: a spread [median, quartiles] as 1.23 [1.20, 1.27]."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(inner)}" for key, inner in value.items())
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, float) for v in value):
        return "{:.2f} [{:.2f}, {:.2f}]".format(*value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(cell, value))
    return str(value).replace("|", "\\|")


def where(result: Tree) -> str:
    """Return the machine, torch and the sources of a result."""
    made = result.get("machine")
    if made is None:
        return ""
    flags = ", ".join(made["instructions"]) or "none of the wide instructions"
    return (
        f"Measured on {made['processor']}, {made['cores']} cores, {flags}; {made['system']}, "
        f"Python {made['python']}, torch {result['torch']}, {made['threads']} thread(s), load "
        f"{made['load']:g}; sources `{result['library']}`."
    )


def throughput(result: Tree) -> Lines:
    """Return the part on networks in training and inference."""
    top, rows = result["peaks"], result["rows"]
    lines = ["## Networks: training and inference", "", where(result), ""]
    lines += [
        "Pairs of a peer's network and ours with the same parameters and the same arithmetic; the "
        "benchmark refuses to run where they differ by more than 5 %.",
        "",
        *table(result["pairs"]),
        "",
        "An update: forward on a batch in memory, mean squared error, backward, the gradient's "
        "norm clipped at 1, the optimizer, one average of the weights, each as its own library "
        "does them (ours: fused AdamW, one `foreach` average; diffusers: AdamW and its EMAModel; "
        "torchcfm: Adam and its examples' average). Inference: one pass at one noise level for the "
        "whole batch, a new level every time. bf16 is autocast in training, for all; in inference "
        "ours is the copy that `unnoise.load` samples with, and diffusers has its weights in bf16.",
        "",
        "GFLOP/s count a forward pass once and an update three times. A share is of the best "
        "measured in the same run and precision: "
        + "; ".join(f"{kind} {cell(found)} GFLOP/s" for kind, found in top.items())
        + " (convolution for U-Nets, matmul for transformers). MB is the most that torch held at "
        "once, above weights and optimizer, counted at every allocation.",
    ]
    columns = ("work", "who", "images a second", "GFLOP/s", "share", "speed", "MB")
    for pair in dict.fromkeys(row["pair"] for row in rows):
        for batch in dict.fromkeys(row["batch"] for row in rows):
            mine = [r for r in rows if (r["pair"], r["batch"]) == (pair, batch)]
            if mine:
                lines += ["", f"**{pair}, batch {batch}**", ""]
                lines += [
                    line.replace("| speed |", "| times the peer's default |")
                    for line in table(mine, columns)
                ]
    if result["targets"]:
        lines += [
            "",
            "The targets at batch 8, as times the peer's default. The bound is the ratio if all of "
            "our arithmetic ran at the peak of this machine and nothing else took time:",
            "",
        ]
        lines += table(result["targets"])
    return lines


def scaling(result: Tree) -> Lines:
    """Return the part on the growth of costs."""
    lines = ["## How the cost grows", "", where(result), ""]
    lines += [
        "Everything else stays along an axis. Batch: 28×28×1, U-Nets of 1.7 M parameters; side: "
        "the same networks on s×s×3, batch 4; parameters (in millions): 16×16×1, batch 8. "
        f"Ours in {result['precision']}, diffusers' UNet2DModel by default. Milliseconds of CPU a "
        "call, and cost ≈ c·sizeᵖ fitted on the logarithms, with the standard error of the "
        "scatter about the line: an exponent below 1 means that a part of the cost does not grow.",
        "",
        *table(result["exponents"]),
        "",
    ]
    for axis in dict.fromkeys(row["axis"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["axis"] == axis]
        lines += ["", f"**{axis}**", ""]
        lines += table(rows, ("size", "work", "peer ms", "our ms", "speed"))
    both = result.get("processes")
    if both:
        lines += [
            "",
            "**One and two processes**: the shipped digits recipe in float32, trained at the same "
            f"batch of the whole update ({both['updates']} updates), and sampled from. Losses "
            "differ relative to their size, samples absolutely; two processes share the machine's "
            "cores with other programs, so measure the speed of two on an idle machine.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {cell(value)} |" for key, value in both.items()),
        ]
    return lines


def time_to_quality(result: Tree) -> Lines:
    """Return the part on the quality reached in equal time."""
    lines = ["## Time to quality", "", where(result), ""]
    lines += [
        f"The same CPU time on one thread for all, {result['evaluations']} network evaluations a "
        "sample. FD is the Fréchet distance in the features of one fixed classifier, C2ST the "
        "share of held-out and made samples that a classifier tells apart (0.5: none); each "
        "between its floor, held-out against training data, and noise. A contestant's figure is "
        "the mean over three sets of samples, from start noise that all share: one set's FD "
        "differs from another's by a tenth.",
    ]
    for name, found in result["data"].items():
        lines += ["", f"**{name}**", "", *table(found["table"])]
        if found.get("targets"):
            lines += ["", *table([{"aim": k, **v} for k, v in found["targets"].items()])]
    if (PAGE.parent / "pictures" / "time_to_quality.png").is_file():
        lines += ["", "![Samples of every contestant](pictures/time_to_quality.png)"]
    return lines


def recipe_search(result: Tree) -> Lines:
    """Return the part on the effect of each choice of a recipe."""
    lines = ["## What each choice of a recipe gives", "", where(result), ""]
    lines += [
        "The shipped recipe with one thing changed, trained for the same CPU time on one thread: "
        + ", ".join(f"{name} {seconds:g} s" for name, seconds in result["seconds"].items())
        + ". Fréchet distance over its floor, C2ST and accuracy in 50 evaluations, unguided, each "
        "the mean over three sets of samples; "
        '"own" is the distance as the recipe samples. One seed a row: a difference '
        "smaller than that between the two seeds of the shipped recipe is a tie.",
    ]
    for name, found in result["data"].items():
        lines += ["", f"**{name}**", "", *table(found["table"])]
    return lines


def sampler_overhead(result: Tree) -> Lines:
    """Return the part on a solver's step beside its arithmetic."""
    lines = ["## A sampler's step", "", where(result), ""]
    lines += [
        "What a step costs beside the tensor arithmetic that it cannot do without: the unit is two "
        "in-place operations, which is one step of DDIM written by hand. The network returns "
        "one constant tensor. Peers run in the loop of their documentation, without the time to "
        "prepare their schedulers. Memory is the peak of all tensors beyond the given state, in "
        "multiples of that state: with a new tensor for each output of the network, and without.",
    ]
    for state, found in result["states"].items():
        lines += ["", f"**{state}**, {found['rounds']} rounds of {result['steps']} steps", ""]
        lines += table(found["rows"])
    return lines


def import_time(result: Tree) -> Lines:
    """Return the part on `import unnoise`."""
    rows = [{"import": name, **row} for name, row in result["imports"].items()]
    return [
        "## Import",
        "",
        where(result),
        "",
        "Seconds in a fresh interpreter, and as a ratio to `import torch`.",
        "",
        *table(rows),
    ]


def compiled(result: Tree) -> Lines:
    """Return the part on our networks compiled block by block."""
    columns = ("pair", "work", "who", "images a second", "speed", "compiling s")
    rows = [row for row in result["rows"] if row["who"].startswith("ours bf16")]
    about = "Ours in bf16 with its blocks compiled, `benchmarks/throughput.py --compiled`, batch 8."
    return ["## Compiled", "", where(result), "", about, "", *table(rows, columns)]


def on_gpu(result: Tree) -> str:
    """Return where a part of `make gpu` was measured."""
    facts = {key: value for key, value in result["gpu"].items() if value is not None}
    return f"Measured by `make gpu`: {cell(facts)}; sources `{result.get('library', '')}`."


def gpu_throughput(result: Tree) -> Lines:
    """Return the section of networks on a GPU."""
    columns = ("work", "batch", "who", "images a second", "TFLOP/s", "speed", "MB", "all MB")
    lines = ["## On a GPU: networks", "", on_gpu(result), ""]
    lines += [
        "Updates and passes as above, eager, in turns, by the clock of the wall with the device "
        "waited for. MB: the most allocated during a call above what was there before it; all MB: "
        "with weights, optimizer and averages.",
    ]
    for pair in dict.fromkeys(row["pair"] for row in result["rows"]):
        lines += ["", f"**{pair}**", ""]
        lines += table([row for row in result["rows"] if row["pair"] == pair], columns)
    return lines


def gpu_compiled(result: Tree) -> Lines:
    """Return the section of compiled blocks on a GPU."""
    columns = ("pair", "work", "batch", "who", "images a second", "speed", "compiling s")
    lines = ["## On a GPU: compiled", "", on_gpu(result), ""]
    return [
        *lines,
        "Speed is that of the eager blocks beside it.",
        "",
        *table(result["rows"], columns),
    ]


def gpu_quality(result: Tree) -> Lines:
    """Return the section of time to quality on a GPU."""
    lines = ["## On a GPU: time to quality", "", on_gpu(result), ""]
    about = f"The recipe {result['recipe']}, trained for so many seconds of the wall's clock."
    return [*lines, about, "", *table(result["rows"])]


SECTIONS: dict[str, Callable[[Tree], Lines]] = {
    "throughput": throughput,
    "throughput_compiled": compiled,
    "time_to_quality": time_to_quality,
    "recipe_search": recipe_search,
    "sampler_overhead": sampler_overhead,
    "scaling": scaling,
    "import_time": import_time,
    "gpu/throughput": gpu_throughput,
    "gpu/compiled": gpu_compiled,
    "gpu/quality": gpu_quality,
}


def main() -> None:
    """Write the page; any argument is refused."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
