"""Bugs in data, the files that are read and written, and the network that is chosen."""

import json
import math

import torch

from unnoise.data import dataset, grid_picture, layout, on_device, spec
from unnoise.safe_files import atomic_folder, files, header, safe_read, strict_json

from .planting import module, mutation

order, choose = module("data.order"), module("recipes.choose")

ORDER, BLOCKS = "tests/data/test_order.py", "tests/data/test_blocks.py"
SPEC, DATASET = "tests/data/test_spec.py", "tests/data/test_dataset.py"
ARRAYS, GRID = "tests/data/test_arrays.py", "tests/data/test_grid_picture.py"
RESIDENT, CHOSEN = "tests/data/test_on_device.py", "tests/recipes/test_choose_network.py"
FILES, HEADER = "tests/safe_files/test_files.py", "tests/safe_files/test_header.py"
READ, FOLDER = "tests/safe_files/test_safe_read.py", "tests/safe_files/test_atomic_folder.py"
KILLED = "tests/training/test_killed.py"
REFUSED = "tests/pipelines/test_sample_refusals.py"


@mutation("order: every epoch is the first", f"{ORDER}::test_epochs_and_seeds_differ")
def _(patch):
    patch.around(
        order, "permutation",
        lambda right: lambda seed, epoch, n, purpose="data order": right(seed, 0, n, purpose),
    )  # fmt: skip


@mutation(
    "order: a batch stops at the epoch's end", f"{ORDER}::test_resuming_anywhere_equals_going_on"
)
def _(patch):
    def wrap(right):
        def wrong(seed, n, counter, size, blocks=None):
            epoch = counter - counter % n
            rows = right(seed, n, epoch, n, blocks)
            return rows[torch.arange(counter - epoch, counter - epoch + size) % n]

        return wrong

    patch.around(order, "order", wrap)


@mutation(
    "blocks: windows are not mixed", f"{BLOCKS}::test_within_a_window_every_place_is_as_likely"
)
def _(patch):
    patch.around(
        order, "block_permutation",
        lambda right: lambda seed, epoch, blocks: torch.argsort(
            blocks.of[right(seed, epoch, blocks)].sort(stable=True).values, stable=True
        ),
    )  # fmt: skip


@mutation("spec: bytes are cut, not rounded", f"{SPEC}::test_bytes_survive_the_round_trip_exactly")
def _(patch):
    def wrong(self, x, clip=True):
        mean, std = self.scale(x.device)
        return (x * std + mean).clamp(0, 255).to(torch.uint8)

    patch.attribute(spec.DataSpec, "restore", wrong)


@mutation(
    "spec: pixels of a range that begins at 0",
    f"{SPEC}::test_pixels_of_a_range_that_does_not_begin_at_zero",
)
def _(patch):
    def wrong(self, x):
        raw = self.restore(x).to(torch.float32)
        return (raw * (255 / self.value_range[1])).round().clamp(0, 255).to(torch.uint8)

    patch.attribute(spec.DataSpec, "pixels", wrong)


@mutation(
    "split: the scale is that of all parts",
    f"{DATASET}::test_the_scale_is_that_of_the_first_part_and_shared",
)
def _(patch):
    whole = dataset.Dataset.split

    def wrong(self, *given, **options):
        seen = dataset.scale
        dataset.scale = lambda _: seen(self.values)
        try:
            return whole(self, *given, **options)
        finally:
            dataset.scale = seen

    patch.attribute(dataset.Dataset, "split", wrong)


@mutation(
    "arrays: channels last are taken for first", f"{ARRAYS}::test_every_shape_has_one_reading"
)
def _(patch):
    patch.around(
        layout, "guess_layout",
        lambda right: lambda shape, whole: right(shape, whole).replace("NHWC", "NCHW"),
    )  # fmt: skip


@mutation("grid picture: columns for rows", f"{GRID}::test_a_row_a_class_with_its_name")
def _(patch):
    def wrong(n, labels, class_names, columns):
        return [("", [i]) for i in range(n)]

    patch.attribute(grid_picture, "_rows", wrong)


@mutation("device: data take all that is free", RESIDENT)
def _(patch):
    patch.attribute(on_device, "SHARE", 1.0)


@mutation("chosen network: cells by the longest side", CHOSEN)
def _(patch):
    def wrap(right):
        return lambda shape: right((shape[0], *(max(shape[1:]),) * (len(shape) - 1)))

    patch.around(choose, "_unet", wrap)


@mutation(
    "chosen network: a short side is cut away",
    f"{CHOSEN}::test_a_short_side_is_neither_cut_nor_halved_away",
)
def _(patch):
    def wrap(right):
        def wrong(shape):
            found = right(shape)
            side = choose.SIDES[len(shape) - 1]
            middle = math.log2(math.prod(shape[1:])) / (len(shape) - 1)
            return found | {"patch": 2 ** max(0, math.ceil(middle - math.log2(side)))}

        return wrong

    patch.around(choose, "_unet", wrap)


@mutation(
    "chosen network: a short side is halved away",
    f"{CHOSEN}::test_a_short_side_is_neither_cut_nor_halved_away",
)
def _(patch):
    patch.result(choose, "_unet", lambda found, *_: found | {"widths": [64, 128, 192, 256]})


@mutation("files: a write is not whole", f"{FILES}::test_a_write_that_fails_leaves_what_was_there")
def _(patch):
    patch.attribute(files, "write_bytes", lambda path, content: path.write_bytes(content))


@mutation(
    "files: what a failed write left stays",
    f"{FILES}::test_a_write_that_fails_leaves_what_was_there",
)
def _(patch):
    patch.attribute(files.Path, "unlink", lambda self, missing_ok=False: None)


@mutation(
    "files: a hash that differs is not looked at",
    f"{FILES}::test_damaged_tensors_are_refused_by_hash_and_without",
)
def _(patch):
    patch.around(
        files, "read_tensors",
        lambda right: lambda path, sha256=None, agree=None: right(path, None, agree),
    )  # fmt: skip


@mutation(
    "json: the last of two equal keys counts", f"{FILES}::test_json_that_is_not_sound_is_refused"
)
def _(patch):
    patch.attribute(strict_json, "strict_json", lambda text, what: json.loads(text))


@mutation("header: of any length", f"{HEADER}::test_a_header_that_is_too_long_is_not_read")
def _(patch):
    patch.attribute(header, "MOST_HEADER", 2**60)


@mutation(
    "reading: a limit that is one byte off",
    f"{READ}::test_files_up_to_the_limit_are_read_and_no_byte_more",
)
def _(patch):
    patch.around(
        safe_read, "read_bytes",
        lambda right: lambda path, error, most=safe_read.MOST_TEXT: right(path, error, most + 1),
    )  # fmt: skip


@mutation(
    "reading: a tree is counted once a value", f"{READ}::test_trees_are_counted_at_every_reference"
)
def _(patch):
    def wrap(right):
        return lambda tree, where, error, most=safe_read.MOST_VALUES: right(
            tree, where, error, 10**9
        )

    patch.around(safe_read, "check_tree", wrap)


@mutation(
    "folder: the new files take their places one by one",
    f"{FOLDER}::test_killed_at_any_operation_it_is_all_old_or_all_new",
)
def _(patch):
    patch.attribute(atomic_folder, "resolve", lambda folder, name: folder / name)


@mutation(
    "folder: what a failed first save made stays",
    f"{FOLDER}::test_a_first_save_on_a_disk_that_fails_leaves_what_was_there",
)
def _(patch):
    patch.attribute(atomic_folder.Path, "rmdir", lambda self: None)
