"""The table, its verdict on the targets, and the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from .plan import HALF, MAIN, OURS

FIGURES = ("fd", "c2st", "sliced_w2")
TARGETS = {"fd": 1.31, "c2st": 0.64}  # × the floor; accuracy of the two-sample test


def grouped(results: Iterable[Mapping[str, Any]]) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Return (contestant, seconds) → its runs, one a seed."""
    out: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for result in results:
        out.setdefault((result["name"], result["seconds"]), []).append(dict(result))
    return out


def rows(results: Iterable[Mapping[str, Any]], bounds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a contestant and length, the best first, between the floor and noise."""
    floor, noise = bounds["floor"], bounds["noise"]
    out = []
    for (name, seconds), runs in grouped(results).items():
        fds = [run["fd"] for run in runs]
        row = {
            "contestant": name,
            "CPU s": int(seconds),
            "parameters": runs[0]["parameters"],
            "seeds": len(runs),
            "updates": round(mean(run["updates"] for run in runs)),
            "images/s": round(mean(run["seen"] / run["cpu_seconds"] for run in runs)),
            "FD": mean(fds),
            "from": min(fds),
            "to": max(fds),
            "× floor": mean(fds) / floor["fd"],
            "C2ST": mean(run["c2st"] for run in runs),
            "sliced W2": mean(run["sliced_w2"] for run in runs),
            "nearer training": mean(run["nearer_training"] for run in runs),
            "sampler": runs[0]["sampler"],
            "labels": "yes" if runs[0]["conditional"] else "no",
        }
        told = [run["accuracy"] for run in runs if "accuracy" in run]
        out.append({**row, "named right": mean(told) if told else None})
        own = [run["samplers"]["own"] for run in runs if "own" in run["samplers"]]
        if own:
            passes = runs[0]["passes"]["own"]
            out[-1][OWN] = mean(o["fd"] for o in own) / floor["fd"]
            out[-1]["own passes"] = passes
    out.sort(key=lambda row: (row["CPU s"], row["FD"]))
    ends = [
        {
            "contestant": label, "FD": found["fd"], "× floor": found["fd"] / floor["fd"],
            "C2ST": found["c2st"], "sliced W2": found["sliced_w2"],
            "named right": found.get("accuracy"),
        }
        for label, found in (("training values (floor)", floor), ("noise", noise))
    ]  # fmt: skip
    return [ends[0], *out, ends[1]]


OWN = "own sampling × floor"


def verdict(results: Iterable[Mapping[str, Any]], bounds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the three targets, as far as there are runs for them."""
    runs = grouped(results)
    floor, out = bounds["floor"]["fd"], {}
    if found := runs.get((OURS, MAIN)):
        fd, told = mean(r["fd"] for r in found) / floor, mean(r["c2st"] for r in found)
        out["FD / floor at 120 s"] = {"value": fd, "target": TARGETS["fd"]}
        out["C2ST at 120 s"] = {"value": told, "target": TARGETS["c2st"]}
    peers = {
        name: mean(r["fd"] for r in found)
        for (name, seconds), found in runs.items()
        if seconds == MAIN and name.endswith("tuned")
    }
    if peers and (half := runs.get((OURS, HALF))):
        best = min(peers, key=lambda name: peers[name])
        out["FD / floor at 60 s, the best tuned peer's at 120 s the target"] = {
            "value": mean(r["fd"] for r in half) / floor,
            "target": peers[best] / floor,
            "peer": best,
        }
    for entry in out.values():
        entry["met"] = entry["value"] <= entry["target"]
    return out


def picture(shown: Mapping[str, np.ndarray], top: float, path: Path, scale: int) -> None:
    """Draw one row of samples (n, 1, H, W), two of each class, a name; its label to the left."""
    from PIL import Image, ImageDraw, ImageFont

    first = next(iter(shown.values()))
    high, wide = (side * scale + 2 for side in first.shape[-2:])
    margin, font = 240, ImageFont.load_default(size=13)
    sheet = Image.new("L", (margin + wide * len(first), (high + 4) * len(shown)), 255)
    draw = ImageDraw.Draw(sheet)
    for k, (name, values) in enumerate(shown.items()):
        draw.text((4, k * (high + 4) + high // 2 - 8), name, fill=0, font=font)
        for j, value in enumerate(values[: len(first), 0]):
            tile = Image.fromarray((value / top * 255).round().astype(np.uint8))
            tile = tile.resize((wide - 2, high - 2), Image.Resampling.NEAREST)
            sheet.paste(tile, (margin + j * wide, k * (high + 4) + 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
