"""The output of a running training: JSON lines, TensorBoard, and a progress line or bar."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ..errors import ArtifactError

BINS = 10
FILE = "log.jsonl"


class ByLevel:
    """The mean loss in bins of t since the last `read`."""

    def __init__(self, bins: int = BINS) -> None:
        self.sums, self.counts = torch.zeros(bins).double(), torch.zeros(bins).double()

    def add(self, per_sample: Tensor, t: Tensor) -> None:
        """Add losses (n,) at times (n,)."""
        which = (t.detach().cpu().double() * len(self.sums)).long().clamp(0, len(self.sums) - 1)
        self.sums.index_add_(0, which, per_sample.detach().cpu().double())
        self.counts.index_add_(0, which, torch.ones(len(which)).double())

    def read(self) -> list[float | None]:
        """Return the means, None for empty bins, and reset them."""
        means = [
            s / c if c else None
            for s, c in zip(self.sums.tolist(), self.counts.tolist(), strict=True)
        ]
        self.sums.zero_(), self.counts.zero_()
        return means


class Log:
    """log.jsonl and TensorBoard files in a run folder, and progress on standard error.

    run: the folder, None for a process that writes nothing. resumed_at: the step of the checkpoint
    that the run resumes from, None for a new log. Lines after that step stay, see `read_log`.
    On a terminal the progress is a bar; elsewhere it is a plain line from time to time.
    """

    def __init__(
        self,
        run: Path | None,
        resumed_at: int | None = None,
        quiet: bool = False,
        tensorboard: bool = True,
    ) -> None:
        self.path = Path(os.devnull) if run is None else run / FILE
        if run is not None and resumed_at is not None:
            _mend(self.path)
        self.file = self.path.open("w" if resumed_at is None else "a", encoding="utf-8")
        self.board: Any = None
        if tensorboard and run is not None:
            from torch.utils.tensorboard import SummaryWriter

            purge = None if resumed_at is None else resumed_at + 1
            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=purge)
        self.bar: Any = None
        self.quiet = quiet or run is None
        self._last = 0.0

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Write a line of the log; numbers that are not finite are written as text.

        Raises ArtifactError if the file cannot be written.
        """
        row = {"kind": kind, "step": step, "time": round(time.time(), 3)} | {
            k: _plain(v) for k, v in values.items()
        }
        try:
            self.file.write(json.dumps(row, allow_nan=False) + "\n")
            self.file.flush()
        except OSError as error:
            raise ArtifactError(
                f"{self.path} cannot be written: {error.strerror or error}; the checkpoints are "
                "untouched: make room and go on with --resume"
            ) from error
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
        """Write a picture (C, H, W) uint8 to TensorBoard."""
        if self.board is not None:
            self.board.add_image(name, pixels, step)

    def progress(self, share: float, text: str) -> None:
        """Show the share of the run that is done."""
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
        """Print a line to standard error, unless quiet."""
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
        with suppress(OSError):  # `write` has raised the error already
            self.file.close()


def read_log(run: Path, superseded: bool = False) -> list[dict[str, Any]]:
    """Return the lines of a run's log, oldest first, each {"kind", "step", "time", …}.

    A line that a kill cut short is left out. A resumed run repeats the updates after its
    checkpoint: the lines of the first time, before the line "resumed", are left out unless
    `superseded`. Raises ArtifactError if the log cannot be read.
    """
    try:
        text = (run / FILE).read_text("utf-8", errors="replace")
    except OSError as error:
        raise ArtifactError(f"{run / FILE} cannot be read: {error.strerror or error}") from error
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or "kind" not in row or type(row.get("step")) is not int:
            continue
        while row["kind"] == "resumed" and not superseded and rows[-1:]:
            if rows[-1]["step"] <= row["step"]:
                break
            rows.pop()
        rows.append(row)
    return rows


def _mend(path: Path) -> None:
    """Remove an incomplete last line."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
