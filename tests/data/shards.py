"""Shards made for the tests: by the real libraries where they are asked for, else by hand."""

import io
import tarfile

import numpy as np
from PIL import Image


def pictures(n=24, height=6, width=5, seed=0):
    """n colour pictures of bytes and n labels of 3 classes, each there."""
    g = np.random.Generator(np.random.Philox(seed))
    return g.integers(0, 256, (n, height, width, 3), dtype=np.uint8), np.arange(n) * 7 % 3


def png(array):
    """The bytes of a PNG, or the bytes given."""
    if isinstance(array, bytes):
        return array
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def npy(array):
    """The bytes of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write_tar(path, members):
    """A tar of (name, bytes or TarInfo) in this order."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_shards(folder, x, y=None, each=7):
    """PNG members with a .cls beside, `each` samples a shard; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, start in enumerate(range(0, len(x), each)):
        members = []
        for i in range(start, min(start + each, len(x))):
            members.append((f"{i:06d}.png", png(x[i])))
            if y is not None:
                members.append((f"{i:06d}.cls", str(int(y[i])).encode()))
        write_tar(folder / f"data-{shard:03d}.tar", members)
    return folder


def parquet_shards(folder, x, y=None, each=10, group=4):
    """Encoded pictures in row groups of `group`, `each` rows a file; the folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for shard, start in enumerate(range(0, len(x), each)):
        part = slice(start, start + each)
        columns = {"image": pa.array([png(a) for a in x[part]])}
        if y is not None:
            columns["label"] = pa.array([int(v) for v in y[part]])
        pq.write_table(
            pa.table(columns), folder / f"data-{shard:03d}.parquet", row_group_size=group
        )
    return folder
