"""Samples as one picture: a labelled grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from PIL.Image import Image

_PAPER, _INK = 255, (60, 60, 60)


def sample_grid(
    pixels: Tensor,
    labels: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    path: str | Path | None = None,
    *,
    columns: int | None = None,
    cell: int = 56,
    gap: int = 2,
) -> Image:
    """Return a grid of images: one row a class with its name if there are labels, else a square.

    Images are enlarged by the whole number that brings their longer side nearest to `cell` pixels,
    without smoothing. Arguments: `pixels` bytes (n, channels, height, width) of 1 (grey), 3 (RGB)
    or 4 (RGBA) channels; `labels` (n,); `columns` images a row (a class with more is continued on
    the next row); `path` of a PNG to write. Raises Unsupported for other shapes,
    InvalidArgument for no images or labels without a name.
    """
    from PIL import Image, ImageDraw, ImageFont

    images = np.asarray(pixels)
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or images.dtype != np.uint8:
        raise Unsupported(
            f"a grid of {images.dtype} values of shape {images.shape}; give bytes of shape "
            "(n, 1 | 3 | 4, height, width): save other data as .npy"
        )
    if not len(images):
        raise InvalidArgument("a grid of no images; give at least one")
    rows = _rows(len(images), labels, class_names, columns)
    height, width = images.shape[2:]
    factor = max(1, round(cell / max(height, width)))
    high, wide = height * factor, width * factor
    font = ImageFont.load_default(max(10, min(18, high // 3)))
    names = [name for name, _ in rows if name]
    margin = 0
    if names:
        margin = 3 * gap + max(math.ceil(font.getlength(name)) for name in names) + 6
    across = max(len(members) for _, members in rows)
    size = (margin + across * (wide + gap) + gap, len(rows) * (high + gap) + gap)
    sheet = Image.new("RGB", size, (_PAPER,) * 3)
    draw = ImageDraw.Draw(sheet)
    for r, (name, members) in enumerate(rows):
        top = gap + r * (high + gap)
        if name:
            draw.text((margin - 6, top + high / 2), name, _INK, font, anchor="rm")
        for c, index in enumerate(members):
            tile = np.moveaxis(images[index], 0, -1)
            picture = Image.fromarray(tile[..., 0] if tile.shape[-1] == 1 else tile)
            picture = picture.resize((wide, high), Image.Resampling.NEAREST)
            place = (margin + gap + c * (wide + gap), top)
            sheet.paste(picture, place, picture if picture.mode == "RGBA" else None)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, "PNG")
    return sheet


def _rows(
    n: int,
    labels: Tensor | None,
    class_names: Sequence[str] | None,
    columns: int | None,
) -> list[tuple[str, list[int]]]:
    if columns is not None and columns < 1:
        raise InvalidArgument(f"columns is {columns}; give 1 or more")
    if labels is None:
        columns = columns or math.ceil(math.sqrt(n))
        return [("", list(range(i, min(n, i + columns)))) for i in range(0, n, columns)]
    numbers = np.asarray(labels)
    if numbers.shape != (n,):
        raise InvalidArgument(f"labels of shape {numbers.shape} for {n} images; give one an image")
    rows = []
    for c in np.unique(numbers).tolist():
        if class_names is not None and not 0 <= c < len(class_names):
            raise InvalidArgument(f"label {c} has no name; names are given for {len(class_names)}")
        name = str(c) if class_names is None else str(class_names[c])
        members = np.flatnonzero(numbers == c).tolist()
        step = columns or len(members)
        for i in range(0, len(members), step):
            rows.append((name if i == 0 else "", members[i : i + step]))
    return rows
