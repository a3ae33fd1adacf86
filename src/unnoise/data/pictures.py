"""The decoding of a picture into an array of bytes, by a stated rule for every kind of file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from ..errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
MODES = {"L": 1, "RGB": 3}  # mode of decoded pictures -> channels
MAX_PIXELS = 89_478_485  # 256 MiB at 3 bytes a pixel
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_GREY = ("1", "L", "LA", "I")
_ORIENTATION = 0x0112
# scans of a progressive JPEG, each a pass over the picture; 20 of the largest; real ones have 10
MAX_SCANS = 100


@dataclass(frozen=True)
class Header:
    """The header of a picture: (height, width) upright, whether it is grey, its frames.

    mode: as Pillow names it (L, RGB, P, CMYK, I;16, …).
    """

    size: tuple[int, int]
    grey: bool
    frames: int
    mode: str = ""


def read_picture_header(path: Path | bytes, name: str | None = None) -> Header:
    """Return the header of a picture without decoding it.

    path: the file, or its bytes with the `name` to use in messages. Raises DataError, naming it, if
    it is no picture or has more than MAX_PIXELS pixels.
    """
    with _opened(path, name or str(path)) as picture:
        width, height = picture.size
        if picture.format == "TIFF":  # Pillow says the size upright, of others as stored
            width, height = (int(picture.tag_v2[tag]) for tag in (256, 257))
        if picture.getexif().get(_ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width
        frames = 1 if picture.format in ("JPEG", "MPO") else getattr(picture, "n_frames", 1)
        return Header((height, width), _is_grey(picture), frames, picture.mode)


def read_picture(
    path: Path | bytes, mode: str, size: tuple[int, int] | None = None, name: str | None = None
) -> UInt8[np.ndarray, "channels height width"]:
    """Decode a picture into bytes of `mode`, L or RGB.

    In this order: the first frame is taken; it is turned upright by its EXIF orientation; 16-bit
    grey is divided by 257 and rounded, of 16-bit colour and of 16-bit grey with alpha the high byte
    is taken (as Pillow reads them); a palette is resolved; transparent pixels are composited over
    white; CMYK (in JPEGs inverted, as Adobe stores it), YCbCr, LAB and HSV become RGB by Pillow's
    conversion; colour profiles (ICC) and gamma are not applied; colour becomes grey by ITU-R 601
    luma for mode L. With `size` (height, width) the largest centred part of that shape is cropped
    and resampled bicubically; large JPEGs are decoded at a fraction of their size that is still at
    least twice `size`. path: the file, or its bytes with the `name` to use in messages.

    Raises DataError, naming the file, if it is damaged, too large, or holds floats or whole
    numbers beyond 16 bits, whose range is unknown.
    """
    from PIL import Image, ImageOps

    name = name or str(path)
    with _opened(path, name) as picture:
        if size is not None:
            picture.draft(None, (2 * max(size), 2 * max(size)))
        picture.load()
        flat = _flat(ImageOps.exif_transpose(picture), name).convert(mode)
        if size is not None and (flat.height, flat.width) != size:
            flat = ImageOps.fit(flat, (size[1], size[0]), Image.Resampling.BICUBIC)
        array = np.asarray(flat)
        return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


@contextmanager
def _opened(path: Path | bytes, name: str) -> Iterator[Any]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if isinstance(path, Path) and path.exists() and not path.is_file():
                raise DataError(f"{name} is no plain file, so no picture; move it away")
            source = io.BytesIO(path) if isinstance(path, bytes) else path
            with Image.open(source, formats=_FORMATS) as picture:
                pixels = picture.width * picture.height
                if pixels > MAX_PIXELS:
                    raise DataError(_too_large(name, f"{picture.width} × {picture.height}"))
                if picture.format in ("JPEG", "MPO") and picture.info.get("progressive"):
                    _few_scans(path, pixels, name)
                yield picture
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"there is no file {name}; check the path") from None
    except Image.DecompressionBombError as error:
        raise DataError(_too_large(name, "far too many")) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError, …
        raise DataError(
            f"{name} is not a sound picture: {error}; replace it or move it away"
        ) from error


def _few_scans(path: Path | bytes, pixels: int, name: str) -> None:
    content = path if isinstance(path, bytes) else path.read_bytes()
    scans = content.count(b"\xff\xda")
    most = min(MAX_SCANS, 20 * MAX_PIXELS // max(1, pixels))
    if scans > most:
        raise DataError(
            f"{name} is a JPEG of {scans} scans, more than the {most} that are decoded here; "
            "save it again"
        )


def _too_large(name: str, pixels: str) -> str:
    return (
        f"{name} declares {pixels} pixels, more than the {MAX_PIXELS:,} that are decoded here; "
        "make it smaller or move it away"
    )


def _is_grey(picture: Image) -> bool:
    return picture.mode in _GREY or picture.mode.startswith("I;16")


def _flat(picture: Image, name: str) -> Image:
    """Return the picture without depth beyond 8 bits and without transparency, in L or RGB."""
    from PIL import Image

    if picture.mode == "F":
        raise DataError(f"{name} holds floats, whose range is not known; give them as a .npy file")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        deep = np.asarray(picture).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise DataError(
                f"{name} holds numbers from {deep.min()} to {deep.max()}, more than 16 bits; give "
                "them as a .npy file with value_range"
            )
        clear = picture.info.get("transparency")
        if clear is not None:
            deep[deep == clear] = 65535
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return picture.convert("L" if picture.mode in _GREY else "RGB")
