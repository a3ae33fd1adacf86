"""The contest's tables: every cell against the best peer chosen with hindsight."""

from __future__ import annotations

from typing import Any

FIGURES = ("median", "p90", "rms", "wrong_mode", "evaluations")
TARGETS = {
    "auto": {5: 1.0, 8: 1.5, 10: 1.5, 15: 3.0, 20: 3.0, 50: 5.0},
    "tuned": {8: 4.0, 10: 4.0, 15: 4.0, 20: 4.0, 50: 4.0},
}
Row = dict[str, float]


def pack(found: dict[str, Any]) -> list[float] | str:
    """Return a contestant's figures to four digits each, or the reason why there are none."""
    if "median" not in found:
        return str(found.get("refused", "not finite"))
    return [float(f"{found[name]:.4g}") for name in FIGURES]


def rows_of(problem: dict[str, Any], budget: int) -> dict[str, Row]:
    """Return name → figures, of those that finished."""
    packed = {name: row.get(str(budget)) for name, row in problem["rows"].items()}
    return {
        name: dict(zip(FIGURES, row, strict=True))
        for name, row in packed.items()
        if isinstance(row, list)
    }


def is_default(name: str) -> bool:
    """Return whether a contestant is a peer's documented default."""
    return name.endswith("[default]")


def best(rows: dict[str, Row], figure: str) -> str | None:
    """Return the peer with the lowest figure, or None if none was run."""
    peers = [n for n in rows if not n.startswith("unnoise") and not is_default(n)]
    return min(peers, key=lambda name: rows[name][figure], default=None)


def ours(rows: dict[str, Row], who: str, figure: str) -> float | None:
    """Return the worst figure of ours over the paths on which it was run."""
    found = [row[figure] for name, row in rows.items() if name.startswith(f"unnoise {who}")]
    return max(found) if found else None


def cells(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one entry a mixture, budget and figure.

    An entry holds best peer, defaults, ours, ratios, and whether the target is met.
    """
    out = []
    for name, problem in result.items():
        budgets = sorted({int(b) for row in problem["rows"].values() for b in row})
        for budget in budgets:
            rows = rows_of(problem, budget)
            for figure in ("median", "p90"):
                peer = best(rows, figure)
                if peer is None or ours(rows, "auto", figure) is None:
                    continue
                cell = {
                    "problem": name, "budget": budget, "figure": figure, "peer": peer,
                    "best": rows[peer][figure],
                    "defaults": {n: r[figure] for n, r in rows.items() if is_default(n)},
                }  # fmt: skip
                for who, targets in TARGETS.items():
                    own = ours(rows, who, figure)
                    if own is not None:
                        cell[who] = own
                        cell[f"{who} ratio"] = rows[peer][figure] / max(own, 1e-300)
                        target = targets.get(budget)
                        cell[f"{who} met"] = target is None or cell[f"{who} ratio"] >= target
                out.append(cell)
    return out


def table(result: dict[str, Any]) -> str:
    """Return Markdown, one table a mixture."""
    lines = []
    for name, problem in result.items():
        lines += [f"### {name}", "", f"{problem['about']}; rms {problem['rms']:.3f}.", ""]
        lines += [
            "| evaluations | figure | best peer with hindsight | its error | defaults, from … to "
            "| auto | × | tuned | × |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for cell in cells({name: problem}):
            usual = sorted(cell["defaults"].values())
            spread = f"{usual[0]:.1e} … {usual[-1]:.1e}" if usual else "none"
            text = (
                f"| {cell['budget']} | {cell['figure']} | {cell['peer']} | {cell['best']:.2e} "
                f"| {spread} "
            )
            for who in TARGETS:
                mark = "" if cell.get(f"{who} met", True) else " ✗"
                text += f"| {cell[who]:.2e} | {cell[f'{who} ratio']:.2f}{mark} "
            lines.append(text + "|")
        lines.append("")
    return "\n".join(lines)


def defaults(result: dict[str, Any]) -> str:
    """Return by how much each peer's documented defaults exceed `auto`, in the median error."""
    names = sorted({n for p in result.values() for n in p["rows"] if is_default(n)})
    budgets = sorted({int(b) for p in result.values() for row in p["rows"].values() for b in row})
    lines = [
        "| default of | " + " | ".join(map(str, budgets)) + " |",
        "|---" * (len(budgets) + 1) + "|",
    ]
    for name in names:
        text = f"| {name.removesuffix(' [default]')} "
        for budget in budgets:
            ratios = []
            for problem in result.values():
                rows = rows_of(problem, budget)
                own = ours(rows, "auto", "median")
                if name in rows and own:
                    ratios.append(rows[name]["median"] / own)
            text += f"| {min(ratios):.1f} … {max(ratios):.1f} " if ratios else "| – "
        lines.append(text + "|")
    return "\n".join(lines)


INTRO = """# Solvers at equal cost

Made by `python benchmarks/solvers.py`; every number is in benchmarks/results/solvers.json.

The fields are exact denoisers of mixtures, in float64. The error of a trajectory is its distance
from the DOP853 solution (tolerance 1e-10) of the same equation, from the same start to the same
end, divided by √(dimension)·rms of the data. Each figure is over 256 trajectories. No default of
unnoise was chosen on these mixtures: the defaults were fitted on random mixtures of other seeds.
(After a first comparison, two kinds were added to those: power-law spectra, and one dominant
component.)

The peers run their own code. The model is evaluated at exactly the noise level that they assume
(their pipelines round it to whole timesteps). VP schedulers start on the last step of DDPM's
linear chain (σ/α = 157), the others at 80, all from the same noise. A peer that ends at σ_min by
its settings is compared with the solution there. A peer that starts later by default ('leading')
starts on the exact trajectory. Two evaluations in a step count as two. Some peers have float32
tables, which limit their error to about 1e-6. "Best peer with hindsight" is the best of {count}
settings, chosen separately for each cell by the figure of that cell. `auto` and `tuned` show the
worst of their results on VP, EDM and flow paths; `tuned` was calibrated on {pilots} other starts.
The columns × are the error of the best peer divided by ours. ✗ marks a ratio below its target
(`auto`: 1 at 5 evaluations, 1.5 at 8 and 10, 3 at 15 and 20, 5 at 50; `tuned`: 4 from 8 on).

"""


def document(result: dict[str, Any], pilots: int) -> str:
    """Return the text of docs/solvers.md."""
    first = next(iter(result.values()))["rows"]
    count = sum(not n.startswith("unnoise") and not is_default(n) for n in first)
    found = cells(result)
    summary = []
    for who in TARGETS:
        met = [cell[f"{who} met"] for cell in found if cell["budget"] in TARGETS[who]]
        above = [cell[f"{who} ratio"] >= 1 for cell in found]
        summary.append(
            f"`{who}` reaches its target in {sum(met)} of {len(met)} cells and is below the best "
            f"peer in {sum(above)} of {len(above)}."
        )
    return (
        INTRO.format(count=count, pilots=pilots)
        + " ".join(summary)
        + "\n\n"
        + table(result)
        + "\n## Against default settings\n\nMedian error of a peer's documented default divided by "
        "that of `auto`, least … most over the mixtures.\n\n" + defaults(result) + "\n"
    )
