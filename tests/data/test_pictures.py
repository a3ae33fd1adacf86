import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data.samples import ramp
from unnoise.data.pictures import MAX_PIXELS, read_picture, read_picture_header
from unnoise.errors import DataError


def test_grey_and_colour_come_through_byte_for_byte(save):
    grey, colour = ramp(), np.stack([ramp(shift=s) for s in (0, 50, 99)], -1)
    assert np.array_equal(read_picture(save("g.png", grey), "L")[0], grey)
    assert np.array_equal(read_picture(save("c.png", colour), "RGB"), np.moveaxis(colour, -1, 0))
    assert np.array_equal(read_picture(save("g.png", grey), "RGB"), np.stack([grey] * 3))
    assert read_picture_header(save("g.png", grey)).grey
    assert not read_picture_header(save("c.png", colour)).grey
    assert read_picture_header(save("g.png", grey)).size == (6, 4)


def test_grey_of_colour_is_luma(save):
    path = save("c.png", np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]))
    assert read_picture(path, "L").flatten().tolist() == [76, 150, 29]


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_is_divided_by_257(save, kind):
    deep = np.uint16([[0, 128, 129, 257, 514], [32896, 65535, 65406, 65407, 1000]])
    path = save(f"deep.{kind}", deep)
    expected = np.rint(deep / 257).astype(np.uint8)
    assert np.array_equal(read_picture(path, "L")[0], expected)
    assert read_picture(path, "L").max() == 255
    assert read_picture_header(path).grey


def test_one_bit_is_black_and_white(save):
    path = save("bit.png", Image.fromarray(ramp() > 80))
    assert set(read_picture(path, "L").flatten().tolist()) == {0, 255}
    assert read_picture_header(path).grey


def test_a_palette_is_looked_up(save):
    picture = Image.fromarray(np.uint8([[0, 1], [2, 1]]), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    path = save("p.png", picture)
    assert Image.open(path).mode == "P"
    assert read_picture(path, "RGB")[0].tolist() == [[10, 40], [70, 40]]
    assert read_picture(path, "RGB")[2].tolist() == [[30, 60], [90, 60]]
    clear = save("t.png", picture, transparency=1)
    assert read_picture(clear, "RGB")[0].tolist() == [[10, 255], [70, 255]]


def test_transparency_lies_over_white(save):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = [0, 255, 51]  # 51/255 = 0.2
    path = save("a.png", rgba)
    assert read_picture(path, "RGB")[:, 0, 0].tolist() == [255, 255, 255]
    assert read_picture(path, "RGB")[:, 0, 1].tolist() == [200, 0, 0]
    assert read_picture(path, "RGB")[:, 0, 2].tolist() == [244, 204, 204]
    grey = save(
        "la.png", Image.merge("LA", [Image.new("L", (1, 1), 0), Image.new("L", (1, 1), 51)])
    )
    assert read_picture(grey, "L").item() == 204
    assert read_picture_header(grey).grey
    keyed = save("k.png", Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))
    assert read_picture(keyed, "RGB").min() == 255


def test_cmyk_becomes_rgb(save):
    picture = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    for path in (save("c.tif", picture), save("c.jpg", picture, quality=100)):
        assert Image.open(path).mode == "CMYK"
        red, green, blue = read_picture(path, "RGB")[:, 4, 4].astype(int)
        assert red <= 3
        assert min(green, blue) >= 252


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(save, orientation):
    upright = ramp()
    undo = Image.Transpose
    stored_as = {
        1: None,
        2: undo.FLIP_LEFT_RIGHT,
        3: undo.ROTATE_180,
        4: undo.FLIP_TOP_BOTTOM,
        5: undo.TRANSPOSE,
        6: undo.ROTATE_90,
        7: undo.TRANSVERSE,
        8: undo.ROTATE_270,
    }[orientation]
    picture = Image.fromarray(upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save("e.png", picture if stored_as is None else picture.transpose(stored_as), exif=exif)
    assert read_picture_header(path).size == (6, 4)
    assert np.array_equal(read_picture(path, "L")[0], upright)


def test_floats_and_numbers_beyond_16_bits_are_refused(save):
    with pytest.raises(DataError, match=r"f\.tif.*\.npy"):
        read_picture(save("f.tif", Image.new("F", (2, 2), 0.5)), "L")
    with pytest.raises(DataError, match=r"i\.tif.*70000"):
        read_picture(save("i.tif", Image.new("I", (2, 2), 70000)), "L")


def test_the_centre_is_cropped_and_resampled(save):
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 200
    path = save("w.png", wide)
    assert read_picture(path, "L", (4, 4)).tolist() == [[[200] * 4] * 4]
    assert read_picture(path, "L", (2, 2)).shape == (1, 2, 2)
    tall = read_picture(save("t.png", wide.T.copy()), "L", (4, 4))
    assert tall.min() == 200
    assert read_picture(path, "L", (2, 6)).shape == (1, 2, 6)
    checker = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = read_picture(save("k.png", checker), "L", (16, 16))[0, 2:-2, 2:-2]
    assert abs(small.astype(int) - 128).max() <= 2  # no aliasing: 1-pixel squares average out


def test_large_jpegs_shrink_to_the_same_picture(save):
    y, x = np.mgrid[:512, :768] / 512
    smooth = np.uint8(255 * np.stack([x / 1.5, y, (x + y) / 2.5], -1))
    exact = read_picture(save("s.png", smooth), "RGB", (32, 32)).astype(int)
    quick = read_picture(save("s.jpg", smooth, quality=95), "RGB", (32, 32)).astype(int)
    assert abs(exact - quick).max() <= 4


def test_damaged_files_are_named(save):
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in ("png", "jpg", "gif", "bmp", "tif", "webp"):
        path = save(f"cut.{kind}", noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"cut\.{kind}"):
            read_picture(path, "RGB")
    for name, content in (("zero.png", b""), ("text.jpg", b"hello"), ("ps.png", b"%!PS-Adobe")):
        path.with_name(name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_picture_header(path.with_name(name))
    with pytest.raises(DataError, match="no file"):
        read_picture_header(path.with_name("absent.png"))


def png_header(width, height):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


@pytest.mark.parametrize("side", [9460, 14000, 60000])
def test_decompression_bombs_are_refused_by_their_header(tmp_path, side):
    assert side**2 > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(png_header(side, side) + b"\0" * 100)
    for read in (read_picture_header, lambda path: read_picture(path, "L")):
        with pytest.raises(DataError, match=r"bomb\.png declares"):
            read(tmp_path / "bomb.png")
