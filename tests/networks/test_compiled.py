import copy
import os
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd

from tests.networks.test_unet import noise, perturbed
from unnoise.networks import UNet, frozen
from unnoise.networks.compiled import compile_blocks

# the stand-in for a compiler below is as simple as can be
pytestmark = pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd:UserWarning")
KEYS = dict(widths=(4, 6), blocks=1, attention=(1,), head=2, embedding=8)


def small():
    return perturbed(UNet(1, **KEYS)).double()


def loss_and_gradients(network):
    network.zero_grad()
    x, level = noise(2, 1, 6, 6).double(), torch.tensor([0.2, 0.7])
    loss = network(x, level).square().mean()
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


def eager(graph, example):
    return graph


def raises(graph, example):
    raise ValueError("no such processor")


@pytest.fixture(autouse=True)
def forget():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_compiled_blocks_give_the_numbers_of_eager_ones_and_are_really_compiled():
    compiled = []

    def counts(graph, example):
        compiled.append(graph)
        return graph

    network = small()
    wanted = loss_and_gradients(network)
    compile_blocks(network, backend=aot_autograd(fw_compiler=counts, bw_compiler=counts))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        got = loss_and_gradients(network)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)
    assert not network.compiled_call.broken
    first = len(compiled)
    assert first >= 2
    loss_and_gradients(network)
    assert len(compiled) == first  # nothing is compiled twice


def test_blocks_of_equal_shapes_share_what_is_compiled():
    compiled = []

    def counts(graph, example):
        compiled.append(graph)
        return graph

    network = UNet(1, widths=(4,), blocks=5, embedding=8)
    compile_blocks(network, backend=counts)
    with torch.no_grad():
        network(noise(2, 1, 6, 6), torch.tensor([0.2, 0.7]))
    assert len(compiled) == 1


@pytest.mark.parametrize(
    "backend",
    [
        raises,
        aot_autograd(fw_compiler=raises, bw_compiler=eager),
        aot_autograd(fw_compiler=eager, bw_compiler=raises),
    ],
    ids=["all", "forward", "backward"],
)
@pytest.mark.parametrize("recompute", [False, True])
def test_where_compiling_fails_it_says_so_once_and_the_numbers_are_right(backend, recompute):
    network = small()
    wanted = loss_and_gradients(network)
    network.recompute = recompute
    compile_blocks(network, backend=backend)
    with pytest.warns(RuntimeWarning, match="runs without") as said:
        got = loss_and_gradients(network)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)
    assert sum("runs without" in str(w.message) for w in said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        torch.testing.assert_close(loss_and_gradients(network), wanted, rtol=1e-12, atol=1e-14)


def test_a_machine_without_a_compiler(tmp_path):
    """The real thing: inductor, in a process of its own, whose C++ compiler does not exist."""
    script = f"""
        import warnings, torch
        from unnoise.networks import UNet
        from unnoise.networks.compiled import compile_blocks
        torch.set_num_threads(1)
        network = UNet(1, **{KEYS!r})
        x, level = torch.ones(1, 1, 6, 6), torch.tensor([0.5])
        for p in network.parameters():
            torch.nn.init.constant_(p, 0.01)
        wanted = network(x, level)
        compile_blocks(network, {str(tmp_path)!r})
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            got = network(x, level)
        assert torch.equal(got, wanted)
        assert sum("runs without" in str(w.message) for w in said) == 1, said
        assert network.compiled_call.broken
        print("eager")
    """
    environment = {**os.environ, "CXX": "/nowhere/c++", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    made = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert made.stdout.strip() == "eager", made.stderr[-2000:]


def test_a_mistake_of_the_caller_is_not_taken_for_one_of_the_compiler():
    network = small()
    compile_blocks(network, backend="eager")
    block = network.blocks()[0]
    with pytest.raises(RuntimeError):
        network.through(block, torch.ones(1, 3, 5, 5).double(), *torch.ones(2, 1, 4, 1, 1).double())
    assert not network.compiled_call.broken


def test_transforms_pass_through_a_compiled_network():
    network = small()
    x, level = noise(1, 1, 6, 6).double(), torch.tensor([0.4])
    wanted = torch.func.jvp(lambda y: network(y, level), (x,), (torch.ones_like(x),))
    compile_blocks(network, backend=raises)
    got = torch.func.jvp(lambda y: network(y, level), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)


def test_a_compiled_network_can_be_copied_and_frozen():
    network = small()
    compile_blocks(network, backend="eager")
    x, level = noise(1, 1, 6, 6).double(), torch.tensor([0.4])
    with torch.no_grad():
        wanted = network(x, level)
        torch.testing.assert_close(copy.deepcopy(network)(x, level), wanted)
        torch.testing.assert_close(frozen(network)(x, level), wanted, rtol=1e-6, atol=1e-7)
