"""What an update asks of its device, seen on torch's meta device, which holds no numbers: nothing
is read there, and nothing is put there that would be waited for."""

import contextlib
import importlib
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.tiny import parts_of, tiny, with_objective
from unnoise.data.on_device import OnDevice
from unnoise.recipes import build_denoiser, build_objective
from unnoise.training import Player, Training
from unnoise.training.distributed import find_processes

META = torch.device("meta")
READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal"}


class Waited(Exception):
    """The host would have had to wait for the device."""


class Made(TorchFunctionMode):
    """Raises Waited where a tensor is made on the device from numbers of the host."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        made = name in ("tensor", "as_tensor", "new_tensor", "asarray")
        if made and out.device == META and not isinstance(args[0], torch.Tensor):
            raise Waited(f"torch.{name}")
        return out


class Traffic(TorchDispatchMode):
    """Raises Waited where numbers of the device are read, or copied in a way that waits.

    What is sent to the host without waiting arrives as ones. sent, put: shapes of what went there
    and back. begun: whether what is put there for good has been.
    """

    def __init__(self):
        super().__init__()
        self.sent, self.put, self.begun = [], [], False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        there = [a for a in args if isinstance(a, torch.Tensor) and a.device == META]
        if there and name in READS:
            raise Waited(name)
        if there and name in ("index", "index_put_"):
            at = [i for i in args[1] if i is not None]
            if any(i.dtype == torch.bool or i.device != META for i in at):
                raise Waited("an index by a mask, or from the host")
        if name in ("_to_copy", "copy_"):
            source, waits = args[name == "copy_"], not kwargs.get("non_blocking")
            target = kwargs.get("device") or (args[0] if name == "copy_" else source).device
            if name == "copy_" and args[2:]:
                waits = not args[2]
            to, of = torch.device(target) == META, source.device == META
            if of and not to:
                if waits:
                    raise Waited("a copy to the host")
                self.sent.append(tuple(source.shape))
                return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
            if to and not of:
                if waits and self.begun:
                    raise Waited("a copy to the device")
                self.put.append(tuple(source.shape))
        return function(*args, **kwargs)


@pytest.fixture(autouse=True)
def on_meta(monkeypatch):
    """torch takes the meta device for one that has fused kernels and autocast."""
    kinds = lambda: ["meta", "cpu", "cuda"]  # noqa: E731
    module = importlib.import_module("torch.optim.optimizer")
    monkeypatch.setattr(module, "_get_fused_kernels_supported_devices", kinds)
    monkeypatch.setattr(_foreach_utils, "_get_foreach_kernels_supported_devices", kinds)
    autocast, enabled = torch.autocast, torch.is_autocast_enabled

    def cast(kind, *given, **options):
        return contextlib.nullcontext() if kind == "meta" else autocast(kind, *given, **options)

    monkeypatch.setattr(torch, "autocast", cast)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *a: a != ("meta",) and enabled(*a))


def on_device(*overrides, resident=False):
    """A Training there, with the look late as on a GPU."""
    recipe = tiny("train.steps=9", "train.clip=1", *overrides)
    data = parts_of(recipe)["train"]
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, data.spec, 0)
    training = Training(
        Player.of(denoiser, build_objective(recipe.objective), recipe.train),
        data,
        recipe.train,
        recipe.model.conditional,
        SimpleNamespace(
            device=META, process_index=0, num_processes=1, backward=find_processes().backward
        ),
    )
    training.deferred = True
    if resident:
        training.source = OnDevice(data, META)
    return training


def traffic(training, count=3):
    """What goes to and fro in `count` updates, after a first one."""
    with Traffic() as seen, closing(training.updates()) as updates:
        next(updates)
        seen.put, seen.sent, seen.begun = [], [], True
        with Made():
            for k in range(count):
                next(updates)
                assert len(seen.sent) == k + 1
                assert training.ema.updates == k + 1  # the last is not judged yet
    return seen


KINDS = [
    ["train.averages={}", "train.ema.every=2"],
    ["train.optimizer.kind=adamw", "train.accumulate=2"],
    ["network={kind: dit, width: 16, depth: 1, patch: 4, head: 8}"],
    ["network={kind: mlp, width: 16, depth: 1}", "path.kind=chain", "model.predicts=eps"],
    ["path={kind: edm}", "model.predicts=x0", "model.preconditioned=true",
     "objective={weight: edm, drop: 0.1, times: {kind: log_normal}}"],
]  # fmt: skip


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("overrides", KINDS)
def test_an_update_waits_for_nothing(overrides, resident):
    training = on_device(*overrides, resident=resident)
    assert training.conditional
    seen = traffic(training)
    event, parts = tuple(training.data.spec.shape), training.config.accumulate
    whole = [shape for shape in seen.put if shape[1:] == event]
    assert len(whole) == 3 * parts * (1 if resident else 2)  # noise, and data where they travel
    assert {len(shape) for shape in seen.sent} == {1}
    parameters = len(list(training.denoiser.network.parameters()))
    assert seen.sent == [(2 + 2 * training.config.batch + parameters,)] * 3


@pytest.mark.parametrize(
    "look",
    [
        lambda loss: loss.value.item(),
        lambda loss: bool(loss.value > 0),
        lambda loss: loss.per_sample.tolist(),
        lambda loss: loss.per_sample.cpu(),
        lambda loss: loss.per_sample[loss.per_sample > 0],
        lambda loss: loss.per_sample.nonzero(),
        lambda loss: torch.ones(3).to(loss.value.device),
        lambda loss: torch.tensor([1.0, 2.0], device=loss.value.device),
        lambda loss: loss.per_sample.clone().copy_(torch.ones(16)),
        lambda loss: loss.per_sample[torch.tensor([3, 4])],
    ],
)
def test_one_look_more_is_seen(look):
    training = on_device("network={kind: mlp, width: 16, depth: 1}")
    objective = training.objective

    def looked_at(model, batch, noise):
        loss = objective(model, batch, noise)
        look(loss)
        return loss

    with_objective(training, looked_at)
    with pytest.raises(Waited):
        traffic(training)


def test_the_look_at_once_is_seen():
    training = on_device("network={kind: mlp, width: 16, depth: 1}")
    training.deferred = False
    with pytest.raises(Waited):
        traffic(training)
