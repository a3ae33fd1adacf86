import math
from itertools import pairwise

import pytest
import torch

from unnoise.networks.positions import axes_of, rotate, rotation, sincos

F64, CPU = torch.float64, torch.device("cpu")
CELLS = [(9,), (4, 5), (3, 2, 4)]


def scores(cells, q, k, head=16):
    """Products of one query and one key, each put at every place."""
    count = math.prod(cells)
    turn = rotation(cells, head, F64, CPU)
    q, k = (rotate(v.expand(1, count, 1, 1, head), turn).reshape(count, head) for v in (q, k))
    return q @ k.T


@pytest.mark.parametrize("cells", CELLS)
def test_products_depend_on_differences_of_positions_alone(cells):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 16, dtype=F64, generator=generator)
    made, places = scores(cells, q, k), axes_of(cells).T.long()
    seen = {}
    for i, a in enumerate(places.tolist()):
        for j, b in enumerate(places.tolist()):
            difference = tuple(x - y for x, y in zip(a, b, strict=True))
            seen.setdefault(difference, []).append(float(made[i, j]))
    for same in seen.values():
        assert max(same) - min(same) < 1e-12
    firsts = sorted(same[0] for same in seen.values())
    assert min(b - a for a, b in pairwise(firsts)) > 1e-9  # and on every one of them
    assert seen[(0,) * len(cells)][0] == pytest.approx(float(q @ k), abs=1e-12)


@pytest.mark.parametrize("cells", CELLS)
def test_rotation_keeps_lengths_and_leaves_the_first_place_alone(cells):
    x = torch.randn(2, math.prod(cells), 2, 3, 16, dtype=F64, generator=torch.Generator())
    made = rotate(x, rotation(cells, 16, F64, CPU))
    torch.testing.assert_close(made.norm(dim=-1), x.norm(dim=-1), rtol=1e-12, atol=0)
    assert torch.equal(made[:, 0], x[:, 0])


def test_angles_are_exact_in_any_dtype_and_can_be_trained_through_after_inference():
    with torch.inference_mode():
        cos, sin = rotation((5000,), 8, torch.float32, CPU)
    place = 4999 * 100**-0.25
    assert float(cos[4999, 0, 0, 1]) == pytest.approx(math.cos(place), abs=1e-6)
    assert float(sin[4999, 0, 0, 1]) == pytest.approx(-math.sin(place), abs=1e-6)
    x = torch.ones(1, 5000, 1, 1, 8, requires_grad=True)
    rotate(x, (cos, sin)).sum().backward()
    assert rotation((5000,), 8, torch.float32, CPU)[0] is cos


@pytest.mark.parametrize(("rows", "columns", "width"), [(4, 4, 24), (3, 5, 24), (2, 2, 30)])
def test_sines_and_cosines(rows, columns, width):
    table = sincos((rows, columns), width, F64, CPU)
    share = width // 4
    for row in range(rows):
        for column in range(columns):
            at = table[row * columns + column]
            want = []
            for place in (column, row):
                angles = [place * 10000 ** (-k / share) for k in range(share)]
                want += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            want += [0.0] * (width - len(want))
            torch.testing.assert_close(at, torch.tensor(want, dtype=F64), rtol=1e-12, atol=1e-12)


def test_sines_and_cosines_are_those_of_diffusers():
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    want = embeddings.get_2d_sincos_pos_embed(24, (3, 3), base_size=3)
    torch.testing.assert_close(
        sincos((3, 3), 24, F64, CPU).float(), want.float(), atol=1e-6, rtol=0
    )
