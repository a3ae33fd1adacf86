"""Derivatives of a network with respect to its input: v·(J v), and J's trace, sample by sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from ..errors import InvalidArgument, UnnoiseError, need_count, unknown
from ..randomness import Streams

Function = Callable[[Tensor], Tensor]
PROBES = ("rademacher", "gaussian")
MODES = ("auto", "backward", "forward", "single")
MOST_NUMBERS = {"cpu": 2**16}  # numbers of tangents held at once: the size of a cache
MOST_NUMBERS_ELSEWHERE = 2**22


class _PlainMemory(TorchFunctionMode):
    """Drop requests for a memory layout, which vmap has none of: values do not change."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = {k: v for k, v in (kwargs or {}).items() if k != "memory_format"}
        return func(*args, **kwargs)


def _pieces(x: Tensor, tangents: Tensor) -> tuple[Tensor, ...]:
    most = MOST_NUMBERS.get(x.device.type, MOST_NUMBERS_ELSEWHERE)
    return tangents.split(max(1, min(len(tangents), most // max(x.numel(), 1))))


def backward_products(
    function: Function, x: Tensor, tangents: Tensor, differentiable: bool = False
) -> tuple[Tensor, Tensor]:
    """Return (function(x), Σ v·(J v) of each sample, (tangents, batch)), by batched reverse mode.

    function: (batch, *event) → the same shape, each sample's value depending on that sample
    alone. tangents v: (tangents, *event), shared by the batch, or (tangents, batch, *event). The
    function is evaluated once, and many tangents go back through it at a time: on networks two
    times faster than batched forward mode, whose derivatives of norms and activations are not
    fused. differentiable: keep the graph, so that both results can be differentiated again.
    (Through forward mode torch's layer_norm gives wrong gradients then.)
    """
    with torch.enable_grad(), _PlainMemory():
        x = x if differentiable and x.requires_grad else x.detach().requires_grad_()
        value = function(x)
        parts = []
        for some in _pieces(x, tangents):
            some = _wide(some, x).expand(-1, *x.shape)
            turned = torch.autograd.grad(
                value, x, some,
                retain_graph=True, create_graph=differentiable, is_grads_batched=True,
            )[0]  # fmt: skip
            parts.append((turned * some).flatten(2).sum(2))
    products = torch.cat(parts)
    return (value, products) if differentiable else (value.detach(), products)


def curvatures(function: Function, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """Return `backward_products`, differentiable where gradients are on."""
    return backward_products(function, x, tangents, torch.is_grad_enabled())


def forward_products(function: Function, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same as `backward_products`, by batched forward mode: no graph is stored."""
    shared = tangents.ndim == x.ndim

    def product(v: Tensor) -> tuple[Tensor, Tensor]:
        v = v.expand_as(x) if shared else v
        value, turned = torch.func.jvp(function, (x,), (v,))  # type: ignore[misc]
        return value, (turned * v).flatten(1).sum(1)

    parts, value = [], x
    # the fused kernels of attention have no forward derivative
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _PlainMemory():
        for some in _pieces(x, tangents):
            value, products = torch.func.vmap(product, out_dims=(None, 0))(some)  # type: ignore[arg-type]
            parts.append(products)
    return value, torch.cat(parts)


def single_products(function: Function, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same as `backward_products`, by one backward pass a tangent."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x)
    return value.detach(), products_of(value, x, tangents)


def products_of(value: Tensor, x: Tensor, tangents: Tensor) -> Tensor:
    """Return Σ v·(J v), (tangents, batch), of a value whose graph begins at x."""
    parts = []
    for v in tangents:
        (turned,) = torch.autograd.grad(value, x, v.expand_as(x), retain_graph=True)
        parts.append((turned * v).flatten(1).sum(1))
    return torch.stack(parts)


def _wide(tangents: Tensor, x: Tensor) -> Tensor:
    return tangents if tangents.ndim > x.ndim else tangents[:, None]


class Products:
    """Compute v·(J v) for given tangents v in one of four modes.

    "backward" and "forward" are batched, "single" is one tangent at a time; "auto" is backward, or,
    with a warning that gives the reason, single where a network has no batched derivative.
    """

    def __init__(self, mode: str = "auto") -> None:
        if mode not in MODES:
            raise unknown("mode of derivatives", mode, MODES)
        self.mode = mode

    def __call__(self, function: Function, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
        if self.mode == "single":
            return single_products(function, x, tangents)
        if self.mode == "forward":
            return forward_products(function, x, tangents)
        try:
            return backward_products(function, x, tangents)
        except UnnoiseError:
            raise
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            if self.mode == "backward":
                raise
            answer = single_products(function, x, tangents)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            warnings.warn(
                f"this network has no batched derivative ({reason}); its divergence is taken by "
                "one backward pass a dimension, which is slower",
                stacklevel=2,
            )
            self.mode = "single"
            return answer


def basis(x: Tensor) -> Tensor:
    """Return the unit vectors of one event, (numbers, *event)."""
    event = x.shape[1:]
    return torch.eye(event.numel(), dtype=x.dtype, device=x.device).reshape(-1, *event)


def trace(function: Function, x: Tensor, mode: str = "auto") -> tuple[Tensor, Tensor]:
    """Return (function(x), tr ∂function/∂x of each sample, (batch,)), exact."""
    value, diagonal = Products(mode)(function, x, basis(x))
    return value, diagonal.sum(0)


def draw_probes(
    noise: Streams, count: int, event: tuple[int, ...], kind: str = "rademacher"
) -> Tensor:
    """Draw probes v with E[v vᵀ] = 1, (count, batch, *event) float32: E[v·(J v)] = tr J.

    "rademacher" is ±1, of the least variance among independent entries (Hutchinson 1990);
    "gaussian" is standard normal (Skilling 1989; Grathwohl et al. 2019).
    """
    need_count("probes", count)
    if kind not in PROBES:
        raise unknown("kind of probe", kind, PROBES)
    if not isinstance(noise, Streams):
        raise InvalidArgument("random probes need noise=Streams(seed, range(batch))")
    if kind == "gaussian":
        draws = noise.normal(count, *event)
    else:
        draws = noise.integers(2, count, *event).float() * 2 - 1
    return draws.movedim(1, 0)
