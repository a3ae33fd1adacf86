"""Bugs in networks, and in what an update asks of its device."""

import torch
from torch import nn

from unnoise import randomness
from unnoise.data import on_device
from unnoise.networks import blocks, embeddings, freezing, positions, resampling
from unnoise.paths import chains

from .planting import mutation

BLOCKS, EMBEDDINGS = "tests/networks/test_blocks.py", "tests/networks/test_embeddings.py"
POSITIONS, SIZES = "tests/networks/test_positions.py", "tests/networks/test_resampling.py"
FREEZING = "tests/networks/test_freezing.py"
WAITS = "tests/training/test_device.py::test_an_update_waits_for_nothing"


@mutation(
    "attention: logits are not divided by √d",
    f"{BLOCKS}::test_written_out_attention_equals_the_fused_one",
)
def _(patch):
    patch.around(
        blocks, "attend", lambda right: lambda q, k, v: right(q * q.shape[-1] ** 0.5, k, v)
    )


@mutation("attention: queries for keys", f"{BLOCKS}::test_attention_is_its_formula")
def _(patch):
    patch.around(blocks, "attend", lambda right: lambda q, k, v: right(k, q, v))


@mutation("residual block: gain for 1 + gain", f"{BLOCKS}::test_residual_block_is_its_formula")
def _(patch):
    patch.result(blocks.ResidualBlock, "modulation", lambda found, *_: (found[0] - 1, found[1]))


@mutation("norm: over the positions too", f"{BLOCKS}::test_channel_norm_is_per_position")
def _(patch):
    def wrong(self, rows):
        return nn.functional.layer_norm(rows, rows.shape[1:])

    patch.attribute(blocks.ChannelNorm, "rows", wrong)


@mutation(
    "halving: the border is filled up with zeros",
    f"{SIZES}::test_halving_averages_only_what_is_there",
)
def _(patch):
    def wrong(x):
        pad = [n % 2 * (n > 1) for n in reversed(x.shape[2:])]
        x = nn.functional.pad(x, [part for n in pad for part in (0, n)])
        pool = (nn.functional.avg_pool1d, nn.functional.avg_pool2d, nn.functional.avg_pool3d)
        return pool[x.ndim - 3](x, tuple(min(n, 2) for n in x.shape[2:]))

    patch.attribute(resampling, "halve", wrong)


@mutation(
    "patches: cells and their inside exchanged", f"{SIZES}::test_a_patch_holds_its_neighbourhood"
)
def _(patch):
    def wrong(x, patch):
        sides = [n // patch for n in x.shape[2:]]
        cells = x.reshape(*x.shape[:2], *[part for n in sides for part in (patch, n)])
        inner, outer = range(2, 2 + 2 * len(sides), 2), range(3, 3 + 2 * len(sides), 2)
        return cells.permute(0, 1, *inner, *outer).flatten(1, 1 + len(sides))

    patch.attribute(resampling, "to_patches", wrong)


@mutation(
    "positions: keys are turned the other way",
    f"{POSITIONS}::test_products_depend_on_differences_of_positions_alone",
)
def _(patch):
    turns = []

    def wrap(right):
        def wrong(x, turn):
            turns.append(x)
            cos, sin = turn
            return right(x, (cos, -sin if len(turns) % 2 else sin))

        return wrong

    patch.around(positions, "rotate", wrap)


@mutation("positions: the axes in one order", f"{POSITIONS}::test_sines_and_cosines")
def _(patch):
    patch.result(positions, "axes_of", lambda axes, cells: axes.flip(0))


@mutation(
    "embedding: half of the frequencies",
    f"{EMBEDDINGS}::test_fourier_features_are_sines_and_cosines_of_geometric_frequencies",
)
def _(patch):
    patch.around(
        embeddings, "fourier_features",
        lambda right: lambda level, count, lowest=0.1, highest=100.0: right(
            level, count, lowest, 50.0
        ),
    )  # fmt: skip


@mutation(
    "embedding: in the precision of the weights",
    f"{EMBEDDINGS}::test_embedding_is_float32_whatever_the_weights",
)
def _(patch):
    patch.attribute(embeddings, "float_linear", lambda layer, x: layer(x.to(layer.weight.dtype)))


@mutation("embedding: a dropped class is class 0", f"{EMBEDDINGS}::test_null")
def _(patch):
    patch.around(
        embeddings.ClassEmbedding,
        "forward",
        lambda right: (
            lambda self, ids, keep: right(self, torch.where(keep, ids, 0), torch.ones_like(keep))
        ),
    )


@mutation(
    "frozen: what embeds the level is cast too", f"{FREEZING}::test_what_is_cast_and_what_is_not"
)
def _(patch):
    def wrong(copy, network, dtype=None):
        return copy if dtype is None else copy.to(dtype)

    patch.result(freezing, "frozen", wrong)


@mutation("device: noise is copied in a way that waits", WAITS)
def _(patch):
    patch.attribute(randomness, "moved", lambda numbers, device: numbers.to(device))


@mutation("device: labels are looked at in every forward pass", WAITS)
def _(patch):
    def wrap(right):
        def wrong(self, ids, keep):
            was, self.training = self.training, False
            try:
                return right(self, ids, keep)
            finally:
                self.training = was

        return wrong

    patch.around(embeddings.ClassEmbedding, "forward", wrap)


@mutation("device: a chain brings its times to the host", WAITS)
def _(patch):
    patch.result(chains.ChainPath, "_locate", lambda found, *_: tuple(part.cpu() for part in found))


@mutation("device: the scale is put there for every batch", WAITS)
def _(patch):
    def wrap(right):
        def wrong(self, indices):
            self.scale = None  # the data's description makes it
            return right(self, indices)

        return wrong

    patch.around(on_device.OnDevice, "batch", wrap)
