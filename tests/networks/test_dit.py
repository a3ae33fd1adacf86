import pytest
import torch

from tests.networks.test_unet import condition, noise, perturbed
from unnoise.errors import InvalidArgument
from unnoise.networks import DiT, positions
from unnoise.networks.compiled import compile_blocks
from unnoise.networks.dit import MOST_TOKENS, TransformerBlock
from unnoise.networks.resampling import from_patches, to_patches

F64 = torch.float64
SMALL = dict(width=24, depth=2, head=12, embedding=16)
KINDS = ["rotary", "sincos", "learned", "none"]


def dit(channels=3, size=(8, 6), classes=4, **more):
    """A small transformer whose every weight was moved, for data of `size`."""
    options = SMALL | more
    if options.get("positions") == "learned":
        options["size"] = size
    return perturbed(DiT(channels, len(size), classes=classes, **options), 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("channels", "size"), [(2, (7,)), (1, (64,)), (3, (1, 9)), (4, (11, 5)), (2, (3, 4, 5))]
)
@pytest.mark.parametrize("patch", [1, 2])
def test_any_size(channels, size, patch, kind):
    more = dict(size=size) if kind == "learned" else {}
    network = DiT(channels, len(size), patch=patch, positions=kind, classes=3, **SMALL, **more)
    x, level = noise(2, channels, *size), torch.tensor([0.2, 0.9])
    assert torch.equal(network(x, level, condition([0, 2])), torch.zeros_like(x))
    out = perturbed(network)(x, level, condition([0, 2]))
    assert out.shape == x.shape
    assert bool(out.isfinite().all())
    assert out.std() > 0


@pytest.mark.parametrize("size", [(8,), (4, 6), (2, 4, 4)])
def test_without_positions_cells_may_change_places(size):
    network = dit(2, size, positions="none", patch=2).double()
    x, level = noise(2, 2, *size).double(), torch.rand(2)
    cells = tuple(n // 2 for n in size)

    def mixed(x):
        tokens = to_patches(x, 2).flatten(2)
        order = torch.randperm(tokens.shape[2], generator=torch.Generator().manual_seed(0))
        return from_patches(tokens[..., order].unflatten(2, cells), 2, size)

    given = condition([1, 2])
    torch.testing.assert_close(
        network(mixed(x), level, given), mixed(network(x, level, given)), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("kind", ["rotary", "sincos", "learned"])
def test_with_positions_they_may_not(kind):
    network = dit(2, (4, 6), positions=kind, patch=1).double()
    x, level = noise(1, 2, 4, 6).double(), torch.rand(1)
    for axis in (2, 3):
        difference = network(x.flip(axis), level) - network(x, level).flip(axis)
        assert difference.abs().max() > 1e-3


@pytest.mark.parametrize("size", [(6,), (4, 3), (2, 3, 2)])
def test_rotary_positions_do_not_know_where_the_data_begin(size, monkeypatch):
    network = dit(2, size, patch=1, width=32, head=16).double()
    x, level, plain = noise(1, 2, *size).double(), torch.rand(1), positions.axes_of
    want = network(x, level)
    for axis in range(len(size)):
        by = torch.zeros(len(size), 1, dtype=F64)
        by[axis] = -7.25
        for change, same in ((lambda grid, by=by: grid + by, True), (lambda g: g * 1.5, False)):
            monkeypatch.setattr(positions, "axes_of", lambda cells, f=change: f(plain(cells)))
            positions.rotation.cache_clear()
            made = network(x, level)
            assert torch.allclose(made, want, rtol=1e-9, atol=1e-10) == same
    positions.rotation.cache_clear()


@pytest.fixture(params=["rotary", "learned"])
def network(request):
    return dit(positions=request.param)


def test_one_level_for_all_costs_one_row_and_changes_nothing(network, monkeypatch):
    network.double()
    x, level, rows = noise(3, 3, 8, 6).double(), torch.tensor([0.3]), []
    network.steer.register_forward_hook(lambda layer, given, made: rows.append(len(made)))
    want = network(x, level.repeat(3))
    torch.testing.assert_close(network(x, level.expand(3)), want, rtol=1e-6, atol=1e-7)
    given = condition([0, 1, 2])
    assert (network(x, level.expand(3), given) - want).abs().max() > 1e-3
    assert rows == [3, 1, 3]


def test_every_block_of_a_new_network_hands_on_what_it_gets():
    network, h = DiT(1, 1, **SMALL), noise(2, 5, 24)
    for modulation in network.modulation(torch.rand(2), None)[:-1]:
        assert torch.equal(network.layers[0](h, modulation, None), h)
        assert bool((modulation[1] == 1).all())  # scales
        assert bool((modulation[4] == 1).all())


def test_a_new_network_learns_from_its_first_updates():
    """Zero at the start, and yet no part is cut off from the loss for good."""
    network, x = DiT(1, 1, classes=2, **SMALL), noise(4, 1, 8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(3):
        loss = (network(x, torch.full((4,), 0.5), condition([0, 1, 0, 1])) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, p in network.named_parameters():
        assert torch.count_nonzero(p.grad), name


def test_recomputing_gives_the_same_gradients(network):
    x, level, grads = noise(2, 3, 8, 6), torch.rand(2), []
    for recompute in (False, True):
        network.recompute = recompute
        network.zero_grad()
        network(x, level, condition([0, 1])).square().mean().backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert network.blocks() == list(network.layers)


def test_muon_gets_the_four_matrices_of_every_block(network):
    names = {id(p): name for name, p in network.named_parameters()}
    hidden = [names[id(p)] for p in network.hidden_matrices()]
    parts = ("project", "out", "widen", "narrow")
    assert sorted(hidden) == sorted(f"layers.{i}.{part}.weight" for i in (0, 1) for part in parts)


@pytest.mark.parametrize(
    ("width", "head"), [(256, 128), (384, 128), (192, 96), (64, 64), (320, 80), (130, 26), (65, 65)]
)
def test_few_wide_heads_by_default(width, head):
    kind = "rotary" if head % 2 == 0 else "sincos"
    made = DiT(1, 2, width=width, depth=1, positions=kind)
    assert (made.config()["head"], made.layers[0].heads) == (head, width // head)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(dimensions=4), "dimensions is 4"),
        (dict(width=0), "width is 0"),
        (dict(depth=0), "depth is 0"),
        (dict(patch=0), "patch is 0"),
        (dict(head=0), "head is 0"),
        (dict(channels=0), "channels is 0"),
        (dict(channels_out=0), "channels_out is 0"),
        (dict(width=96, head=64), r"head is 64, which does not divide width 96; .* head=48"),
        (dict(width=33, head=11), r"head is 11; rotary .* even head of at least 4"),
        (dict(width=4, head=4, dimensions=3), "at least 6, or positions='sincos'"),
        (dict(expand=0), "expand is 0"),
        (dict(expand=float("nan")), "expand is nan"),
        (dict(positions="rotery"), "did you mean 'rotary'"),
        (dict(positions="learned"), r"size is None; learned .* size=\[32, 32\]"),
        (dict(positions="learned", size=(8,)), r"size is \(8,\)"),
        (dict(size=(8, 8)), "leave size out"),
        (dict(positions="learned", size=(3, 2), patch=4), "patch is 4 and the data are 3 × 2"),
        (dict(seed=-1), "seed is -1"),
    ],
)
def test_wrong_arguments(change, says):
    with pytest.raises(InvalidArgument, match=says):
        DiT(**{"channels": 1, **change})


def test_data_that_do_not_fit_are_refused_with_the_remedy():
    level = torch.rand(1)
    with pytest.raises(InvalidArgument, match=r"patch is 5 and the data are 4 × 3; .* most 4"):
        dit(3, patch=5)(torch.zeros(1, 3, 4, 3), level)
    long = torch.zeros(1, 1, 1).expand(1, 1, MOST_TOKENS + 1)
    with pytest.raises(InvalidArgument, match=r"65,537 tokens.*give a larger patch"):
        dit(1, (8,), patch=1)(long, level)
    learned = dit(3, (8, 6), positions="learned")
    with pytest.raises(InvalidArgument, match=r"5 × 3 cells .* size 8 × 6; .*'rotary'"):
        learned(torch.zeros(1, 3, 10, 6), level)
    with pytest.raises(InvalidArgument, match="3 × 4 cells"):  # as many, in another shape
        learned(torch.zeros(1, 3, 6, 8), level)
    with pytest.raises(InvalidArgument, match=r"\(batch, 3, any, any\)"):
        learned(torch.zeros(1, 3, 8), level)


@pytest.mark.filterwarnings("error:the network cannot be compiled:RuntimeWarning")
def test_its_blocks_can_be_traced_whole(network):
    x, level, given = noise(2, 3, 8, 6), torch.rand(2), condition([0, 2])
    made = []
    for runs in range(2):
        if runs:
            compile_blocks(network, backend="aot_eager")
        network.zero_grad()
        out = network(x, level, given)
        out.square().mean().backward()
        made.append([out.detach(), *(p.grad.clone() for p in network.parameters())])
    for a, b in zip(*made, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert network.compiled_call.compiled.keys() == {TransformerBlock}
