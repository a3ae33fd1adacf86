"""Small made data that the tests of the data room share."""

import numpy as np
import torch

from unnoise.data import Dataset


def ramp(height=6, width=4, shift=0):
    """Grey bytes, no two rows or columns alike."""
    return (np.arange(height * width).reshape(height, width) * 7 + shift).astype(np.uint8)


def labelled(counts=(40, 40, 20), seed=0):
    """A small set of byte pictures whose value says its place, with classes of these sizes."""
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    g = np.random.Generator(np.random.Philox(seed))
    labels = labels[torch.from_numpy(g.permutation(len(labels)))]
    values = torch.from_numpy(g.integers(0, 256, (len(labels), 2, 3, 5), dtype=np.uint8))
    return Dataset.of(
        values,
        labels,
        name="small",
        modality="image",
        channels="two",
        class_names=[f"c{c}" for c in range(len(counts))],
        licence="none",
        source="a test",
    )
