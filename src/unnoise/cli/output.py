"""Writing samples: a grid to look at, an array, or a folder of pictures."""

from __future__ import annotations

import io
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..artifacts import Model, Samples
from ..artifacts.files import write_bytes
from ..errors import InvalidArgument


def program() -> str:
    """What to type to run this program again from here."""
    if shutil.which("unnoise"):
        return "unnoise"
    started = Path(sys.argv[0])
    if started.name != "unnoise":
        return f"{sys.executable} -m unnoise"
    with suppress(ValueError):
        return str(started.absolute().relative_to(Path.cwd()))
    return str(started)


def is_picture(model: Model) -> bool:
    """Whether a sample can be shown as a PNG."""
    return model.spec.modality == "image" and model.spec.shape[0] in (1, 3)


def check_output(model: Model, out: Path) -> None:
    """Raise InvalidArgument, before any work, where samples cannot be written to `out`."""
    if out.suffix not in ("", ".png", ".npy"):
        raise InvalidArgument(f"--out is {str(out)!r}; give a .png, a .npy, or a folder")
    if out.suffix != ".npy" and not is_picture(model):
        raise InvalidArgument(
            f"samples of {model.spec.modality} data of shape {model.spec.shape} are no pictures; "
            "give --out samples.npy"
        )
    if out.suffix and out.is_dir():
        raise InvalidArgument(f"{out} is a folder; give a file name, or a folder without ending")
    if not out.suffix and out.is_file():
        raise InvalidArgument(f"{out} is a file; give a folder, or a name ending in .png or .npy")
    if out.suffix and not out.parent.is_dir():
        raise InvalidArgument(f"there is no folder {out.parent}; make it first")
    check_folder(out.parent if out.suffix else out)


def check_folder(folder: Path) -> None:
    """Raise InvalidArgument, before any work, where files cannot be written into `folder`."""
    at = folder.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    if not at.is_dir():
        raise InvalidArgument(f"{at} is a file; no folder {folder} can be made there")
    if not os.access(at, os.W_OK | os.X_OK):
        raise InvalidArgument(f"{at} cannot be written to; give another place")


def write_samples(model: Model, made: Samples, out: Path) -> None:
    """Write samples as the ending of `out` says."""
    if out.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, made.values.numpy(), allow_pickle=False)
        write_bytes(out, buffer.getvalue())
        return
    from ..data import sample_grid

    pixels = model.spec.pixels(made.x)
    if out.suffix == ".png":
        buffer = io.BytesIO()
        sample_grid(pixels, made.labels, model.spec.class_names).save(buffer, "PNG")
        write_bytes(out, buffer.getvalue())
        return
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    names = model.spec.class_names
    for i, picture in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        label = "" if made.labels is None or names is None else f"-{names[int(made.labels[i])]}"
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in label)
        picture = picture[..., 0] if picture.shape[-1] == 1 else picture
        Image.fromarray(picture).save(out / f"{i:05d}{safe}.png")
