"""Every kind of picture by the stated rule, against pixels known beforehand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data.samples import ramp
from unnoise.data.pictures import read_picture, read_picture_header


def png(depth, colour, rows, *chunks):
    """A PNG by hand: bit depth, colour type, raw bytes of each row, chunks before the pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width = len(rows[0]) * 8 // (depth * channels)
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", head),
            *(chunk(*c) for c in chunks),
            chunk(b"IDAT", body),
            chunk(b"IEND", b""),
        ]
    )


def read(content, mode, **options):
    return read_picture(content, mode, name="x", **options)


def over_white(value, alpha):
    return round((value * alpha + 255 * (255 - alpha)) / 255)


def test_bits_below_eight():
    assert read(png(1, 0, [[0b10100000], [0b01000000]]), "L")[0, :, :3].tolist() == [
        [255, 0, 255],
        [0, 255, 0],
    ]
    assert read(png(2, 0, [[0b00011011]]), "L")[0].tolist() == [[0, 85, 170, 255]]
    assert read(png(4, 0, [[0x0F, 0x5A]]), "L")[0].tolist() == [[0, 255, 85, 170]]


def test_grey_with_alpha_lies_over_white():
    content = png(8, 4, [[0, 255, 0, 51, 100, 128, 9, 0]])
    wanted = [over_white(v, a) for v, a in ((0, 255), (0, 51), (100, 128), (9, 0))]
    assert read(content, "L")[0].tolist() == [wanted]
    assert read(content, "RGB")[2].tolist() == [wanted]
    assert read_picture_header(content, "x").grey


def test_colour_with_alpha_lies_over_white():
    red, green, blue = read(png(8, 6, [[200, 10, 0, 51, 1, 2, 3, 255]]), "RGB")[:, 0].tolist()
    assert red == [over_white(200, 51), 1]
    assert green == [over_white(10, 51), 2]
    assert blue == [over_white(0, 51), 3]


def test_a_palette_with_shades_of_transparency():
    palette = (b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90]))
    content = png(8, 3, [[0, 1, 2]], palette, (b"tRNS", bytes([255, 51])))
    found = read(content, "RGB")[:, 0].T.tolist()
    assert found == [[10, 20, 30], [over_white(c, 51) for c in (40, 50, 60)], [70, 80, 90]]
    assert not read_picture_header(content, "x").grey


def test_one_colour_that_means_transparent():
    grey = png(8, 0, [[7, 8]], (b"tRNS", struct.pack(">H", 7)))
    assert read(grey, "L")[0].tolist() == [[255, 8]]
    deep = png(16, 0, [struct.pack(">HH", 1000, 25_700)], (b"tRNS", struct.pack(">H", 1000)))
    assert read(deep, "L")[0].tolist() == [[255, 100]]


def test_sixteen_bits():
    values = [0, 128, 129, 65_407, 65_406, 65_535]
    grey = png(16, 0, [struct.pack(">6H", *values)])
    assert read(grey, "L")[0].tolist() == [[round(v / 257) for v in values]]
    colour = png(16, 2, [struct.pack(">6H", 0x12FF, 0x3400, 0xFFFF, 0x00FF, 0x8080, 0x7F01)])
    assert read(colour, "RGB")[:, 0].T.tolist() == [[0x12, 0x34, 0xFF], [0x00, 0x80, 0x7F]]
    alpha = png(16, 4, [struct.pack(">4H", 0x64FF, 0xFFFF, 0x6400, 0x3300)])
    assert read(alpha, "L")[0].tolist() == [[0x64, over_white(0x64, 0x33)]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiff_in_both_byte_orders(order):
    values = np.array([[0, 257, 514], [65_535, 1000, 32_896]], np.uint16)
    body = values.astype(f"{order}u2").tobytes()
    entries = [(256, 4, 3), (257, 4, 2), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 200)]
    entries += [(277, 3, 1), (278, 4, 2), (279, 4, len(body))]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, value in entries:
        packed = struct.pack(f"{order}H2x" if kind == 3 else f"{order}I", value)
        head += struct.pack(f"{order}HHI", tag, kind, 1) + packed
    content = head.ljust(200, b"\0") + body
    assert read(content, "L")[0].tolist() == np.rint(values / 257).astype(int).tolist()


def cmyk_jpeg(components, adobe):
    """8 × 8 pixels of four constant components, as they are stored, coded by hand."""
    bits = ""
    for value in components:
        level = value - 128  # quantised by 8, the DC coefficient of a constant block
        bits += ("0" + f"{level:07b}") if level == 127 else ("10" + f"{level + 255:08b}")
        bits += "0"  # nothing but the DC coefficient
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(
        b"\xff", b"\xff\0"
    )

    def marker(kind, body):
        return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body

    frame = struct.pack(">BHHB", 8, 8, 8, 4) + b"".join(bytes([i, 0x11, 0]) for i in range(1, 5))
    lengths = bytes([1, 1] + [0] * 14)
    parts = [b"\xff\xd8"]
    if adobe:
        parts.append(marker(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)))
    parts += [
        marker(0xDB, b"\0" + bytes([8] * 64)),
        marker(0xC0, frame),
        marker(0xC4, b"\x00" + lengths + bytes([7, 8])),
        marker(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"),
        marker(0xDA, b"\4" + b"".join(bytes([i, 0]) for i in range(1, 5)) + b"\0\x3f\0"),
        scan,
        b"\xff\xd9",
    ]
    return b"".join(parts)


@pytest.mark.parametrize("adobe", [True, False])
@pytest.mark.parametrize(
    ("stored", "colour"),
    [
        ((0, 255, 255, 255), [0, 255, 255]),  # all cyan, no other ink
        ((255, 0, 255, 255), [255, 0, 255]),
        ((255, 255, 255, 0), [0, 0, 0]),  # black ink
        ((255, 255, 255, 255), [255, 255, 255]),  # no ink
    ],
)
def test_cmyk_jpegs_are_stored_inverted(stored, colour, adobe):
    content = cmyk_jpeg(stored, adobe)
    assert read_picture_header(content, "x").mode == "CMYK"
    found = read(content, "RGB")
    assert np.abs(found[:, 4, 4].astype(int) - colour).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP", "PNG"])
def test_exif_orientation_by_the_table_of_the_standard(kind, orientation):
    """Where row 0 and column 0 of what is stored lie, by EXIF 2.3, tag 274."""
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255  # the upper left corner is white
    upright[:8, 16:] = 128  # the upper right one grey
    rows, columns = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    stored = upright
    if rows in ("left", "right"):  # rows of what is stored are columns of the picture
        stored = stored.T
    if rows in ("bottom", "right"):
        stored = stored[::-1]
    if columns in ("bottom", "right"):
        stored = stored[:, ::-1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(stream, kind, exif=exif, **options)
    assert read_picture_header(stream.getvalue(), "x").size == (16, 24)
    found = read(stream.getvalue(), "L")[0].astype(int)
    assert np.abs(found - upright).max() <= 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_moving_pictures_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (200, 10, 90)]
    stream = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], **options)
    assert read_picture_header(stream.getvalue(), "x").frames == 3
    assert read(stream.getvalue(), "RGB")[:, 2, 2].tolist() == [200, 0, 0]


def test_colour_profiles_and_gamma_are_not_applied():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    colour = np.stack([ramp(shift=s) for s in (0, 50, 99)], -1)
    stream = io.BytesIO()
    Image.fromarray(colour).save(stream, "PNG", icc_profile=profile)
    assert Image.open(stream).info["icc_profile"] == profile
    assert np.array_equal(read(stream.getvalue(), "RGB"), np.moveaxis(colour, -1, 0))
    content = png(8, 0, [[7, 8]], (b"gAMA", struct.pack(">I", 10_000)))
    assert read(content, "L")[0].tolist() == [[7, 8]]
