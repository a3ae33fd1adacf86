"""The output of samples: checks of the place, a grid as one picture, progress."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..artifacts import Model
from ..errors import InvalidArgument
from ..safe_files.files import write_bytes
from ..sampling import SampleReport

EVERY = 10.0  # seconds between lines of progress


def program() -> str:
    """Return the command that runs this program again from the working folder."""
    if shutil.which("unnoise"):
        return "unnoise"
    started = Path(sys.argv[0])
    if started.name != "unnoise":
        return f"{sys.executable} -m unnoise"
    with suppress(ValueError):
        return str(started.absolute().relative_to(Path.cwd()))
    return str(started)


def check_place(out: Path) -> None:
    """Raise InvalidArgument unless `out` is a .png, a .npy or a folder that can be written."""
    if out.suffix == ".npz":
        raise InvalidArgument(
            f"--out is {str(out)!r}, and an archive cannot be written piece by piece; give a .npy "
            "(labels come beside it)"
        )
    if out.suffix not in ("", ".png", ".npy"):
        raise InvalidArgument(f"--out is {str(out)!r}; give a .png, a .npy, or a folder")
    if out.suffix and out.is_dir():
        raise InvalidArgument(f"{out} is a folder; give a file name, or a folder without ending")
    if not out.suffix and out.is_file():
        raise InvalidArgument(f"{out} is a file; give a folder, or a name ending in .png or .npy")
    if out.suffix and not out.parent.is_dir():
        raise InvalidArgument(f"there is no folder {out.parent}; make it first")
    check_folder(out.parent if out.suffix else out)


def check_folder(folder: Path) -> None:
    """Raise InvalidArgument, before any work, if files cannot be written into `folder`."""
    at = folder.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    if not at.is_dir():
        raise InvalidArgument(f"{at} is a file; no folder {folder} can be made there")
    if not os.access(at, os.W_OK | os.X_OK):
        raise InvalidArgument(f"{at} cannot be written to; give another place")


def write_grid(model: Model, made: SampleReport, out: Path) -> str:
    """Write samples as one picture, a row a class; return its path and whether it was replaced."""
    from ..data import sample_grid

    buffer = io.BytesIO()
    pixels = model.spec.pixels(made.x)
    sample_grid(pixels, made.labels, model.spec.class_names).save(buffer, "PNG")
    text = f"replaced {out}" if os.path.lexists(out) else str(out)
    write_bytes(out, buffer.getvalue())
    return text


class Meter:
    """Progress of sampling: number done, rate, time left.

    A bar on a terminal, elsewhere a line from time to time.
    """

    def __init__(self) -> None:
        self.bar: Any = None
        self.began = self.printed = time.monotonic()
        self.at: int | None = None

    def __call__(self, done: int, n: int) -> None:
        from tqdm import tqdm

        now = time.monotonic()
        if self.at is None:  # an earlier call may have drawn many before the first block
            self.at, self.began = done, now
        if sys.stderr.isatty():
            if self.bar is None:
                self.bar = tqdm(total=n, initial=done, unit="", file=sys.stderr, desc="samples")
            self.bar.update(done - self.bar.n)
        elif now - self.printed > EVERY and done > self.at:
            self.printed, rate = now, (done - self.at) / (now - self.began)
            left = tqdm.format_interval((n - done) / rate)
            print(f"{done} of {n} samples  {rate:.1f}/s  {left} left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the bar and leave it on the screen."""
        if self.bar is not None:
            self.bar.close()
