"""What a run says while it runs: JSON lines always, TensorBoard, and a line or a bar to look at."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

BINS = 10


class ByLevel:
    """The mean loss in bins of t, since it was last read."""

    def __init__(self, bins: int = BINS) -> None:
        self.sums, self.counts = torch.zeros(bins).double(), torch.zeros(bins).double()

    def add(self, per_sample: Tensor, t: Tensor) -> None:
        """Take in losses (n,) at times (n,)."""
        which = (t.detach().cpu().double() * len(self.sums)).long().clamp(0, len(self.sums) - 1)
        self.sums.index_add_(0, which, per_sample.detach().cpu().double())
        self.counts.index_add_(0, which, torch.ones(len(which)).double())

    def read(self) -> list[float | None]:
        """The means, None for empty bins; starts anew."""
        means = [
            s / c if c else None
            for s, c in zip(self.sums.tolist(), self.counts.tolist(), strict=True)
        ]
        self.sums.zero_(), self.counts.zero_()
        return means


class Log:
    """log.jsonl and TensorBoard files in a run folder, and progress on standard error.

    On a terminal the progress is a bar; elsewhere it is a plain line from time to time.
    """

    def __init__(
        self, run: Path, append: bool, quiet: bool = False, tensorboard: bool = True
    ) -> None:
        self.file = (run / "log.jsonl").open("a" if append else "w", encoding="utf-8")
        self.board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(run / "tensorboard"))
        self.bar: Any = None
        self.quiet = quiet
        self._last = 0.0

    def write(self, kind: str, step: int, **values: Any) -> None:
        """A line of the log; numbers that are not finite are written as text."""
        row = {"kind": kind, "step": step, "time": round(time.time(), 3)} | {
            k: _plain(v) for k, v in values.items()
        }
        self.file.write(json.dumps(row, allow_nan=False) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    self.board.add_scalar(f"{kind}/{name}", value, step)
                elif name.endswith("by_level"):
                    for i, v in enumerate(value):
                        if v is not None:
                            level = f"t {i / len(value):.1f}-{(i + 1) / len(value):.1f}"
                            self.board.add_scalar(f"{kind}/{name}/{level}", v, step)

    def picture(self, name: str, pixels: Tensor, step: int) -> None:
        """A picture (C, H, W) uint8 to TensorBoard."""
        if self.board is not None:
            self.board.add_image(name, pixels, step)

    def progress(self, share: float, text: str) -> None:
        """Show how far the run is."""
        if self.quiet:
            return
        if sys.stderr.isatty():
            if self.bar is None:
                from tqdm import tqdm

                shape = "{l_bar}{bar}| {elapsed}<{remaining}  {postfix}"
                self.bar = tqdm(total=1000, bar_format=shape, leave=True, file=sys.stderr)
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(round(share * 1000) - self.bar.n)
        elif time.monotonic() - self._last > 10 or share >= 1:
            self._last = time.monotonic()
            print(f"{share:4.0%}  {text}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line for the reader."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.board is not None:
            self.board.close()
        self.file.close()


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
