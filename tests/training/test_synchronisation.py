"""How often an update waits for the device: what is computed there is read on the host once."""

import torch
from torch.overrides import TorchFunctionMode

from tests.training.tiny import tiny, training_of

READS = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__", "cpu", "numpy",
         "nonzero", "__array__"}  # fmt: skip


class Readings(TorchFunctionMode):
    """Notes the reads of tensors that come of the parameters, wherever they are computed.

    On a CPU nothing waits; that a value depends on the network is what tells those that would.
    """

    def __init__(self, parameters):
        super().__init__()
        self.marked = {id(p): p for p in parameters}
        self.found = []

    def _tensors(self, tree):
        if isinstance(tree, torch.Tensor):
            yield tree
        elif isinstance(tree, list | tuple):
            for part in tree:
                yield from self._tensors(part)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = [*self._tensors(args), *self._tensors(list((kwargs or {}).values()))]
        if any(id(t) in self.marked for t in given):
            name = getattr(function, "__name__", "")
            if name in READS:
                self.found.append(name)
            for t in self._tensors(out):
                self.marked[id(t)] = t  # held, so that no other gets its id
            if name.endswith("_") and given:
                self.marked[id(given[0])] = given[0]
        return out


def readings(*overrides):
    training = training_of(tiny(*overrides))
    updates = training.updates()
    next(updates)
    with Readings(training.denoiser.network.parameters()) as seen:
        for _ in range(3):
            next(updates)
    return seen.found


def test_an_update_is_read_once():
    for overrides in ([], ["train.optimizer.kind=adamw"], ["train.accumulate=2"],
                      ["train.averages={}", "train.ema.every=2"]):  # fmt: skip
        assert readings("train.steps=9", *overrides) == ["tolist"] * 3


def test_the_reader_of_readings_sees_one():
    p = torch.nn.Parameter(torch.ones(3))
    with Readings([p]) as seen:
        other = torch.ones(3)
        (other * 2).sum().item()
        loss = (p * other).sum()
        loss.backward()
        float(p.grad.abs().max())
        bool((loss > 0).all())
    assert len(seen.found) == 2
