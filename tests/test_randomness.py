"""Per-sample streams: keys, purposes, subsets, and no other source of randomness anywhere."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

import unnoise
from unnoise.errors import InvalidArgument
from unnoise.randomness import Streams, moved

LAST = 2**64 - 1


def draws(noise):
    return noise.normal(3, 5), noise.uniform(4), noise.integers(1000, 2), noise.normal()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_bitwise_the_same_at_any_batch_and_order(size):
    whole = draws(Streams(7, range(64)))
    parts = [draws(Streams(7, range(i, min(i + size, 64)))) for i in range(0, 64, size)]
    assert same([torch.cat(column) for column in zip(*parts, strict=True)], whole)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    mixed = draws(Streams(7, order.tolist()))
    assert same(mixed, [value[order] for value in whole])
    scattered = draws(Streams(7, [41, 3, 3]))
    assert same(scattered, [value[[41, 3, 3]] for value in whole])


def test_shapes_dtypes_and_ranges():
    noise = Streams(0, range(5))
    assert len(noise) == 5
    normal, uniform, whole, scalar = draws(noise)
    assert (normal.shape, normal.dtype) == ((5, 3, 5), torch.float32)
    assert (uniform.shape, uniform.dtype) == ((5, 4), torch.float32)
    assert (whole.shape, whole.dtype) == ((5, 2), torch.int64)
    assert scalar.shape == (5,)
    assert Streams(0, []).normal(2).shape == (0, 2)
    many = Streams(1, range(3000))
    values = many.integers(7)
    assert values.unique().tolist() == list(range(7))
    u = many.uniform(3)
    assert bool(((u >= 0) & (u < 1)).all())
    assert all(value.device.type == "cpu" for value in (normal, uniform, whole))


def test_the_generator_is_philox_keyed_by_seed_and_index():
    # the contract that other ranks, devices and versions have to keep
    for seed, index in [(0, 0), (5, 17), (LAST, LAST), (2**63, 1)]:
        own = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
        wanted = own.standard_normal((2, 3), np.float32)
        assert np.array_equal(Streams(seed, [index]).normal(2, 3)[0].numpy(), wanted)


def test_neighbouring_keys_do_not_repeat_each_other():
    rows = [
        Streams(seed, [index], purpose).normal(8)
        for seed in (0, 1, 2, LAST)
        for index in (0, 1, 2, LAST)
        for purpose in ("", "times", "drop")
    ]
    assert len({tuple(row.flatten().tolist()) for row in rows}) == len(rows)


def test_samples_are_standard_normal_and_uniform():
    # z-tests with a 5 σ limit, on 200,000 numbers over 2,000 streams
    noise = Streams(123, range(2000))
    x, u = noise.normal(100).double(), noise.uniform(100).double()
    n = x.numel()
    for got, mean, variance in [
        (x, 0, 1),
        (x**2, 1, 2),
        (x**4, 3, 96),
        (u, 0.5, 1 / 12),
        (u**2, 1 / 3, 4 / 45),
    ]:
        assert abs(float(got.mean()) - mean) < 5 * (variance / n) ** 0.5


def correlation(a, b):
    """Sample correlation in units of its standard error."""
    a, b = a.double().flatten(), b.double().flatten()
    a, b = a - a.mean(), b - b.mean()
    return abs(float((a * b).mean() / (a.std() * b.std()))) * len(a) ** 0.5


def test_streams_are_independent_of_their_neighbours():
    noise = Streams(0, range(2000)).normal(50)
    assert correlation(noise[:-1], noise[1:]) < 5
    assert correlation(noise[:, :-1], noise[:, 1:]) < 5
    assert correlation(noise, Streams(1, range(2000)).normal(50)) < 5


def test_purposes_are_independent_and_do_not_shift_each_other():
    base = Streams(4, range(2000))
    before = base.rewound().normal(20)
    labels, drop = base.purpose("labels").normal(20), base.purpose("drop").normal(20)
    assert correlation(before, labels) < 5
    assert correlation(labels, drop) < 5
    assert torch.equal(base.normal(20), before)
    assert torch.equal(base.purpose("labels").normal(20), labels)
    nested = base.purpose("labels").purpose("drop").normal(20)
    assert correlation(nested, drop) < 5
    assert correlation(nested, labels) < 5


def test_draws_continue_and_are_not_slices_of_longer_ones():
    noise = Streams(2, range(3))
    first, second = noise.normal(10), noise.normal(10)
    assert not torch.equal(first, second)
    assert correlation(first, second) < 5
    again = Streams(2, range(3))
    assert torch.equal(again.normal(10), first)
    assert torch.equal(again.normal(10), second)


def test_rewound_stands_where_the_mark_was():
    noise = Streams(9, [4, 2, 8], "x")
    noise.normal(3)
    noise.integers(5)
    mark = noise.mark()
    rest = draws(noise)
    assert same(draws(noise.rewound(mark)), rest)
    start = noise.rewound()
    start.normal(3)
    start.integers(5)
    assert start.mark() == mark
    assert same(draws(start), rest)
    twice = noise.rewound(mark).rewound(mark)
    assert same(draws(twice), rest)


def test_subsets_are_the_streams_of_those_samples():
    noise = Streams(3, range(10, 20), "labels")
    whole = draws(noise)
    part = noise[2:5]
    assert list(part.indices) == [12, 13, 14]
    assert same(draws(part), [value[2:5] for value in whole])


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "0", None, True])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(InvalidArgument, match="seed is"):
        Streams(seed, range(2))


def test_impossible_indices_and_ranges_are_refused():
    for indices in ([0, -1], [2**64], range(-2, 3)):
        with pytest.raises(InvalidArgument, match="sample indices reach from"):
            Streams(0, indices)
    for high in (0, -3, 2**63 + 1):
        with pytest.raises(InvalidArgument, match=f"whole numbers below {high}"):
            Streams(0, range(2)).integers(high)


GLOBAL = re.compile(
    r"torch\.(randn|rand|randint|randperm|normal|bernoulli|multinomial|poisson|manual_seed|seed"
    r"|randn_like|rand_like|randint_like)\(|\.(normal_|uniform_|bernoulli_|exponential_|random_)\("
    r"|np\.random\.(seed|rand|randn|randint|normal|uniform|permutation|shuffle|choice)\("
    r"|default_rng\(\)|^import random|random\.(random|shuffle|choice|sample)\("
)


def allowed(room, line):
    # initial weights come from torch's layers, inside networks.seeded, which forks the generator
    return "generator=" in line or (room == "networks" and "nn.Parameter(torch.randn(" in line)


def test_nothing_draws_from_a_global_generator():
    root = Path(unnoise.__file__).parent
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if GLOBAL.search(line) and not allowed(path.parent.name, line)
    ]
    assert found == []


def test_the_core_leaves_the_global_generator_alone():
    from tests.exact import mixture_2d
    from unnoise.objectives import Batch, Denoising
    from unnoise.paths import Flow

    before = torch.get_rng_state()
    noise = Streams(0, range(4))
    field = mixture_2d(Flow())
    x0 = field.sample(noise)
    Denoising()(field, Batch(x0.float()), noise)
    Flow().prior(noise, (2,))
    assert torch.equal(torch.get_rng_state(), before)


def one_by_one(seed, indices, purpose, calls):
    """What the contract says: a generator for each sample, keyed by (seed, index)."""
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    out = []
    generators = [
        np.random.Generator(
            np.random.Philox(
                key=np.array([seed, i], np.uint64),
                counter=np.array([0, 0, 0, word if purpose else 0], np.uint64),
            )
        )
        for i in indices
    ]
    for kind, event, high in calls:
        rows = [
            {"normal": lambda g=g: g.standard_normal(event, np.float32),  # noqa: B023
             "uniform": lambda g=g: g.random(event, np.float32),  # noqa: B023
             "integers": lambda g=g: g.integers(high, size=event)}[kind]()  # noqa: B023
            for g in generators
        ]  # fmt: skip
        out.append(np.stack(rows) if rows else None)
    return out


def test_every_number_is_that_of_a_generator_of_its_own():
    # streams share one generator while they are drawn from once: no number may change by that
    chance = np.random.Generator(np.random.Philox(0))
    events, highs = [(), (1,), (3,), (2, 3), (0,)], [1, 2, 7, 2**32, 2**33, 2**63 - 1]
    for _ in range(200):
        seed = [0, 1, 2**63, LAST, 11, 12][chance.integers(6)]
        indices = [int(i) for i in chance.integers(2**63, size=chance.integers(1, 4))] + [LAST]
        purpose = str(chance.choice(["", "times", "a/b"]))
        calls = [
            (
                str(chance.choice(["normal", "uniform", "integers"])),
                events[chance.integers(5)],
                highs[chance.integers(6)],
            )
            for _ in range(chance.integers(1, 4))
        ]
        noise = Streams(seed, indices, purpose)
        for wanted, (kind, event, high) in zip(
            one_by_one(seed, indices, purpose, calls), calls, strict=True
        ):
            got = getattr(noise, kind)(*([high] if kind == "integers" else []), *event).numpy()
            assert got.dtype == wanted.dtype
            assert np.array_equal(got, wanted)


class Moves(TorchFunctionMode):
    """Moves nothing; keeps whether a move would have been waited for."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to:
            self.waits = not kwargs["non_blocking"]
            return args[0]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("device", "waits"), [("cpu", False), ("meta", False), ("mps", True)])
def test_no_copy_may_read_memory_that_is_free_again(device, waits):
    """pytorch issue 189690: on MPS a copy that is not waited for may."""
    with Moves() as moves:
        moved(torch.ones(3), torch.device(device))
    assert moves.waits == waits
