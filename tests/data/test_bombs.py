"""Files made to take all memory or time: refused by what they declare, before it is unpacked."""

import io
import resource
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data.shards import write_tar
from tests.data.test_pictures import png_header
from unnoise.data import open_data
from unnoise.data.pictures import read_picture, read_picture_header
from unnoise.errors import DataError

SIDE = 60_000  # 3.6 thousand million pixels


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks):
    """A sound 4 × 4 PNG with more chunks before its pixels."""
    stream = io.BytesIO()
    Image.new("L", (4, 4), 7).save(stream, "PNG")
    whole = stream.getvalue()
    at = whole.index(b"IDAT") - 4
    return whole[:at] + b"".join(chunks) + whole[at:]


def text(kind, size, count=1):
    packed = zlib.compress(b"\0" * size, 9)
    head = b"k\0\0" if kind == b"zTXt" else b"k\0\1\0\0\0"
    return png_with(*[chunk(kind, head + packed)] * count)


def gif():
    return b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0\0\0," + bytes(40) + b";"


def gif_frame():
    """A small screen with a frame far larger than it."""
    frame = b"," + struct.pack("<HHHH", 0, 0, 65_535, 65_535) + b"\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HH", 4, 4) + b"\x80\0\0" + bytes(6) + frame + b";"


def tiff(count=8):
    entries = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, 8), (259, 3, 1, 1)]
    entries += [(262, 3, 1, 1), (273, 4, 1, count), (277, 3, 1, 1), (279, 4, 1, 2**31)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4)


def tiff_loop():
    """Directories that point at each other for ever."""
    stream = io.BytesIO()
    Image.new("L", (4, 4), 7).save(stream, "TIFF")
    whole = bytearray(stream.getvalue())
    first = struct.unpack_from("<I", whole, 4)[0]
    count = struct.unpack_from("<H", whole, first)[0]
    struct.pack_into("<I", whole, first + 2 + 12 * count, first)
    return bytes(whole)


def webp():
    vp8x = b"\x10\0\0\0" + (2**14 - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", len(vp8x)) + vp8x
    frame = b"ANMF" + struct.pack("<I", 16) + bytes(16)
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp():
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(header), 0, 0, 54) + header + bytes(100)


def jpeg(scans=400):
    """A progressive JPEG whose last scan is repeated."""
    stream = io.BytesIO()
    g = np.random.Generator(np.random.Philox(0))
    Image.fromarray(g.integers(0, 256, (64, 64), dtype=np.uint8)).save(
        stream, "JPEG", progressive=True
    )
    whole = stream.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * scans + b"\xff\xd9"


BOMBS = {
    "pixels.png": png_header(SIDE, SIDE),
    "pixels.gif": gif(),
    "frame.gif": gif_frame(),
    "pixels.tif": tiff(),
    "pixels.webp": webp(),
    "pixels.bmp": bmp(),
    "pixels.ppm": b"P6\n60000 60000\n255\n" + bytes(100),
    "itxt.png": text(b"iTXt", 2**26),
    "ztxt.png": text(b"zTXt", 2**26),
    "many.png": text(b"iTXt", 2**20 - 1, 100),
    "scans.jpg": jpeg(),
}
LIMIT = """
import resource, sys
from pathlib import Path
from PIL import Image
from unnoise.data.pictures import read_picture_header, read_picture
from unnoise.errors import DataError
Image.init()
import numpy, torch
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
for name in sys.argv[1:]:
    try:
        read_picture_header(Path(name))
        read_picture(Path(name), "RGB", (4, 4))
        print("read", name)
    except DataError as error:
        print("refused", error)
"""


def test_pictures_that_declare_too_much_are_refused_within_half_a_gigabyte(tmp_path):
    for name, content in BOMBS.items():
        (tmp_path / name).write_bytes(content)
        assert len(content) < 2**19
    paths = [str(tmp_path / name) for name in BOMBS]
    done = subprocess.run(
        [sys.executable, "-c", LIMIT, *paths],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == ["refused"] * len(BOMBS), said
    for line, path in zip(said, paths, strict=True):
        assert path in line


@pytest.mark.parametrize("name", ["scans.jpg", "pixels.gif", "pixels.tif", "pixels.bmp"])
def test_the_reason_is_the_one_declared(tmp_path, name):
    with pytest.raises(DataError, match=r"pixels|scans"):
        read_picture(BOMBS[name], "L", (4, 4), name)


def test_what_is_only_odd_is_read(tmp_path):
    assert read_picture(tiff_loop(), "L", name="loop.tif").tolist() == [[[7] * 4] * 4]
    assert read_picture(text(b"iTXt", 1000), "L", name="text.png").max() == 7
    assert read_picture_header(jpeg(20), "j.jpg").size == (64, 64)


def test_an_archive_that_unpacks_to_hundreds_of_times_its_size_is_refused(tmp_path):
    """300 MiB of zeros in 0.3 MB."""
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (300, 2**20)}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(header.getvalue())
        for _ in range(300):
            stream.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"bomb\.npz unpacks from .* bytes"):
        open_data(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_names_in_an_archive_are_looked_at_before_anything_is_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((4, 3)), extra=np.zeros((4, 3)))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(DataError, match="'extra' is not known"):
        open_data(tmp_path / "a.npz")


def test_bombs_inside_shards_are_refused_too(tmp_path, cache):
    write_tar(tmp_path / "a.tar", [("0.png", BOMBS["pixels.png"])])
    with pytest.raises(DataError, match=r"a\.tar: 0\.png declares"):
        open_data(tmp_path / "a.tar")
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    write_tar(tmp_path / "b.tar", [("0.npy", stream.getvalue()), ("1.npy", stream.getvalue())])
    with pytest.raises(DataError, match=r"b\.tar: 0\.npy cannot be read: .*another size"):
        open_data(tmp_path / "b.tar")


def test_a_label_is_not_a_book(tmp_path, cache):
    picture = png_with()
    deep = ("[" * 100_000).encode()
    for name, content in (("cls", b"9" * 10_000), ("json", deep), ("json", b'{"label": NaN}')):
        write_tar(tmp_path / "a.tar", [("0.png", picture), (f"0.{name}", content)])
        with pytest.raises(DataError, match=rf"a\.tar: 0\.{name}"):
            open_data(tmp_path / "a.tar")
