"""Duplicates: samples that are equal, and pictures that are nearly equal."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import torch
from torch import Tensor

NEAR_MOST = 10_000  # pictures compared with each other; more take too long
NEAR_SIDE = 16
NEAR_RMS = 0.01  # share of the range, between thumbnails without their mean


class Duplicates:
    """A collector of the samples of one pass over the data, which finds those that are alike."""

    def __init__(self, image: bool) -> None:
        self._same: dict[bytes, list[int]] = defaultdict(list)
        self._image = image
        self._thumbnails: list[Tensor] = []
        self._indices: list[int] = []

    def add(self, indices: Tensor, values: Tensor) -> None:
        """Take samples in: values (m, *event)."""
        for i, value in zip(indices.tolist(), values, strict=True):
            digest = hashlib.blake2b(value.numpy().tobytes(), digest_size=16).digest()
            if digest not in self._same and self._image and len(self._indices) <= NEAR_MOST:
                grey = value.float().mean(0, keepdim=True)[None]
                side = (min(NEAR_SIDE, grey.shape[2]), min(NEAR_SIDE, grey.shape[3]))
                small = torch.nn.functional.adaptive_avg_pool2d(grey, side).flatten()
                self._thumbnails.append(small - small.mean())
                self._indices.append(i)
            self._same[digest].append(i)

    def exact(self) -> list[list[int]]:
        """Return groups of samples equal value by value, in the order of their first."""
        return [group for group in self._same.values() if len(group) > 1]

    def near(self, low: float, high: float) -> list[tuple[int, int]] | None:
        """Return pairs of pictures that are nearly equal; None if there are too many to compare.

        Two are nearly equal if their grey thumbnails of 16 × 16, each without its mean, differ by
        less than 1 % of the range (root mean square), and by less than a tenth of their own
        variation.
        """
        if not self._image or len(self._indices) > NEAR_MOST:
            return None if self._image else []
        if len(self._indices) < 2:
            return []
        x = torch.stack(self._thumbnails) / max(high - low, 1e-30)
        power = (x * x).mean(1)
        found = []
        for start in range(0, len(x), 1024):
            part = slice(start, start + 1024)
            gap = power[part, None] + power - 2 * (x[part] @ x.T) / x.shape[1]
            limit = torch.minimum(power[part, None], power).mul(0.01).clamp_(max=NEAR_RMS**2)
            rows, columns = torch.nonzero(gap <= limit, as_tuple=True)
            later = columns > rows + start
            found += [
                (self._indices[a + start], self._indices[b])
                for a, b in zip(rows[later].tolist(), columns[later].tolist(), strict=True)
            ]
        return found
