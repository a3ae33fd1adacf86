import numpy as np
import pytest
import torch
from PIL import Image

from unnoise.data import sample_grid
from unnoise.errors import InvalidArgument, Unsupported


def flat(*levels: int, channels: int = 1, side: int = 28) -> torch.Tensor:
    shape = (len(levels), channels, side, side)
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(shape).contiguous()


def test_a_square_of_whole_number_enlargements():
    images = flat(0, 10, 20, 30, 40)
    images[0, 0, 0, 0] = 200
    sheet = sample_grid(images)
    assert sheet.size == (3 * 58 + 2, 2 * 58 + 2)
    pixels = np.asarray(sheet)
    assert (pixels[2:4, 2:4] == 200).all()  # one pixel became two by two, unsmoothed
    assert (pixels[4:58, 4:58] == 0).all()
    assert [pixels[30, 30 + 58 * c, 0] for c in range(3)] == [0, 10, 20]
    assert pixels[90, 30, 0] == 30
    assert (pixels[60:, 2 + 2 * 58 :] == 255).all()  # nothing in the last place


def test_a_row_a_class_with_its_name(tmp_path):
    labels = torch.tensor([1, 0, 1, 0, 1])
    path = tmp_path / "new" / "grid.png"
    sheet = sample_grid(flat(11, 20, 12, 21, 13), labels, ["zero", "one"], path)
    pixels = np.asarray(sheet)
    margin = sheet.width - 3 * 58 - 2
    assert margin > 20
    at = lambda r, c: pixels[30 + 58 * r, margin + 30 + 58 * c, 0]  # noqa: E731
    assert [at(0, 0), at(0, 1), at(1, 0), at(1, 1), at(1, 2)] == [20, 21, 11, 12, 13]
    assert (pixels[:58, :margin] < 128).any()  # a name is written
    assert (pixels[58:, :margin] < 128).any()
    assert (np.asarray(Image.open(path)) == pixels).all()


def test_long_rows_are_continued_and_colours_kept():
    images = flat(9, 9, 9, channels=3, side=64)
    images[1, 0], images[1, 1] = 250, 130
    sheet = sample_grid(images, torch.zeros(3, dtype=torch.int64), columns=2)
    assert sheet.height == 2 * 66 + 2
    assert sheet.getpixel((sheet.width - 30, 30)) == (250, 130, 9)


def test_bad_input_is_named():
    with pytest.raises(Unsupported, match="save other data"):
        sample_grid(torch.zeros(2, 5, dtype=torch.uint8))
    with pytest.raises(Unsupported, match="float32"):
        sample_grid(torch.zeros(2, 1, 4, 4))
    with pytest.raises(InvalidArgument, match="no images"):
        sample_grid(flat(1)[:0])
    with pytest.raises(InvalidArgument, match="label 2 has no name"):
        sample_grid(flat(1, 2), torch.tensor([0, 2]), ["a", "b"])
    with pytest.raises(InvalidArgument, match="columns is 0"):
        sample_grid(flat(1), columns=0)
