"""The layout of an array: the meaning of its axes, guessed only if there is one reading."""

from __future__ import annotations

import numpy as np

from ..errors import DataError, InvalidArgument, unknown

# N samples, C channels, L length, H height, W width; D features of a vector, depth of a volume
LAYOUTS = {
    "ND": "vector",
    "NCL": "signal",
    "NLC": "signal",
    "NHW": "image",
    "NHWC": "image",
    "NCHW": "image",
    "NDHW": "volume",
    "NDHWC": "volume",
    "NCDHW": "volume",
}
CHANNEL_COUNTS = (1, 2, 3, 4)


def guess_layout(shape: tuple[int, ...], whole_numbers: bool) -> str:
    """Return the layout of an array by its shape.

    Two axes are vectors. Three are pictures (N, H, W), unless the values are floats and a side
    is 4 or less, which may be a signal. Four or five axes are images or volumes whose channel
    axis is the one of the second and the last that has 1 to 4 entries. Raises DataError requesting
    `layout` if this leaves two readings or none.
    """
    axes = len(shape)
    if axes == 2:
        return "ND"
    if axes == 3 and (whole_numbers or min(shape[1:]) > max(CHANNEL_COUNTS)):
        return "NHW"
    if axes in (4, 5):
        first, last = shape[1] in CHANNEL_COUNTS, shape[-1] in CHANNEL_COUNTS
        if first != last:
            pair = ("NCHW", "NHWC") if axes == 4 else ("NCDHW", "NDHWC")
            return pair[0] if first else pair[1]
    fitting = [name for name in LAYOUTS if len(name) == axes]
    if not fitting:
        raise DataError(
            f"an array of shape {shape} has {axes} axes; give 2 to 5, samples first "
            f"({', '.join(LAYOUTS)}); one number a sample is shape (N, 1)"
        )
    raise DataError(
        f"an array of shape {shape} can be read in more than one way; say which with "
        f"layout={' or '.join(map(repr, fitting))}"
    )


def channels_first(x: np.ndarray, layout: str) -> np.ndarray:
    """Return a view (N, C, …) of an array in `layout`; a missing channel axis becomes one of 1."""
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if x.ndim != len(layout):
        raise InvalidArgument(
            f"layout {layout!r} has {len(layout)} axes and the array of shape {x.shape} has "
            f"{x.ndim}; give a layout of {x.ndim} letters"
        )
    if layout.endswith("C"):
        return np.moveaxis(x, -1, 1)
    return x if layout == "ND" or "C" in layout else x[:, None]


def channel_meaning(modality: str, count: int) -> str:
    """Return the default name of the channels: features, L, RGB or their number."""
    if modality == "vector":
        return "features"
    by_count = {1: "L", 3: "RGB"} if modality == "image" else {}
    return by_count.get(count, f"{count} channels" if count > 1 else "1 channel")
