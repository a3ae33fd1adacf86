"""The options of sampling on the command line: one line for each option of a SampleRequest."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from ..sampling import SampleRequest

# name: (type, flags, help); the same for every command that draws samples
OPTIONS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "n": (int, ("--n", "-n"), "How many samples."),
    "steps": (int, ("--steps",), "Steps of the solver."),
    "solver": (
        str, ("--solver",), "Solver: dpmpp_2m, unipc, ddpm, ddim:eta=0.5, … (see `unnoise "
        "solvers`), or a name of others, such as 'DPM++ 2M Karras'.",
    ),
    "grid": (str, ("--grid",), "Grid of times: karras, uniform, log_snr, quadratic, …"),
    "guidance": (
        str, ("--guidance",), "Guidance scale: 1 none, more follows the class more; or a list of "
        "sections, as in a recipe.",
    ),
    "interval": (str, ("--interval",), "Times LOW,HIGH between which to guide, as 0.2,0.8.  [all]"),
    "rescale": (float, ("--rescale",), "Share of the growth in deviation to take back.  [0]"),
    "classes": (
        list[str], ("--class",), "Class by number or name; repeat for several. [all in turn]"
    ),
    "condition": (
        list[str], ("--condition",), "NAME=VALUE of a further condition, as age=41 or "
        "place=[1.5, 2]; repeat for several.  [null, classes in turn]",
    ),
    "seed": (int, ("--seed",), "Sample i of a seed is always the same noise.  [0]"),
    "first": (int, ("--first",), "The index of the first sample of the seed.  [0]"),
    "batch": (int, ("--batch",), "How many at once.  [250]"),
    "precision": (str, ("--precision",), "auto, fp32, bf16 or fp16.  [auto]"),
    "device": (str, ("--device",), "auto, cpu, cuda, …  [auto]"),
}  # fmt: skip


def takes_request(
    *, without: tuple[str, ...] = (), **texts: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of sampling, which reach it as its argument `request`.

    without: options that the command does not have; texts: other help texts.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for n, p in inspect.signature(command).parameters.items() if n != "request"]
        command.__annotations__.pop("request")
        hints = get_type_hints(command, include_extras=True)
        for name in OPTIONS.keys() - set(without):
            kind, flags, text = OPTIONS[name]
            hints[name] = Annotated[kind | None, typer.Option(*flags, help=texts.get(name, text))]
        made = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
            for name in OPTIONS
            if name not in without
        ]

        @functools.wraps(command)
        def call(**given: Any) -> None:
            options = {p.name: given.pop(p.name) for p in made}
            command(request=parse_request(options), **given)

        first = [p for p in own if "Argument" in str(hints[p.name])]
        rest = [p for p in own if p not in first]
        parameters = [
            p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for p in (*first, *made, *rest)
        ]
        del call.__wrapped__
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def parse_request(options: dict[str, Any]) -> SampleRequest:
    """Return the request of options as the command line has them. Raises InvalidArgument."""
    from ..errors import InvalidArgument
    from ..sampling import SampleRequest

    tree = {name: value for name, value in options.items() if value not in (None, [])}
    if "guidance" in tree:
        form = "a number, {class: 2, age: 1}, or a list: [{kind: classifier_free, scale: 2}]"
        tree["guidance"] = _read("guidance", tree["guidance"], form)
    if "condition" in tree:
        tree["condition"] = _conditions(tree["condition"])
        if "class" in tree["condition"] and "classes" in tree:
            raise InvalidArgument("the class is given twice, by --class and --condition; give one")
    if "interval" in tree:
        tree["interval"] = _read("interval", f"[{tree['interval']}]", "two times, as 0.2,0.8")
    return SampleRequest.of(**tree)


def _conditions(given: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE texts by name; several values of one name are taken in turn."""
    from ..errors import InvalidArgument
    from ..recipes.load import parse_override
    from ..sampling import CycleClasses

    found: dict[str, list[Any]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise InvalidArgument(f"--condition is {text!r}; give NAME=VALUE, such as age=41")
        found.setdefault(name, []).append(parse_override(f"value={value}")[1])
    return {n: CycleClasses(tuple(values)) for n, values in found.items()}


def _read(name: str, text: str, form: str) -> Any:
    from ..errors import InvalidArgument
    from ..recipes.load import parse_override

    number = {"nan": float("nan"), "inf": float("inf")}.get(text)
    value = parse_override(f"{name}={text}")[1] if number is None else number
    if not isinstance(value, int | float | list | dict) or isinstance(value, bool):
        raise InvalidArgument(f"--{name} is {text!r}; give {form}")
    return value
