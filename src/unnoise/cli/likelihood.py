"""`unnoise likelihood`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..pipelines import LikelihoodReport


def likelihood(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model, such as runs/demo.")],
    data: Annotated[
        str | None, typer.Option(help="Other data than the recipe's: a folder, an array, a name.")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Number of samples of the data.")] = 100,
    part: Annotated[
        str | None,
        typer.Option(help="test or validation.  [test, where the recipe holds one out]"),
    ] = None,
    bound: Annotated[
        bool, typer.Option("--bound", help="The variational bound, term by term.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(help="Bound: number of steps.  [those of the chain]")
    ] = None,
    continuous: Annotated[
        bool | None,
        typer.Option(
            "--continuous",
            help="Bound: the limit of infinitely many steps.  [unless the path is a chain]",
        ),
    ] = None,
    variance: Annotated[
        str | None, typer.Option(help="Bound: posterior, transition or learned.")
    ] = None,
    strata: Annotated[
        int | None,
        typer.Option(help="Bound: Monte Carlo over the steps, in this many equal shares."),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Bound: draws of noise per term.")] = None,
    method: Annotated[str | None, typer.Option(help="Flow: rk45, dop853, rk4, …  [rk45]")] = None,
    tol: Annotated[
        float | None, typer.Option(help="Flow: tolerance of an adaptive method.")
    ] = None,
    solver_steps: Annotated[
        int | None, typer.Option(help="Flow: steps of a method that is not adaptive.")
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--hutchinson",
            help="Flow: the divergence, exact or by random probes.  [exact up to 100 numbers]",
        ),
    ] = None,
    probes: Annotated[int | None, typer.Option(help="Flow: number of random probes.")] = None,
    conditional: Annotated[
        bool | None,
        typer.Option(
            "--conditional/--unconditional", help="Condition on the class, or on nothing."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    batch: Annotated[int, typer.Option(help="Samples per batch.")] = 100,
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16 or auto.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure how likely held-out data are under a model, in bits/dim and nats."""
    from tqdm import tqdm

    from ..pipelines import measure_likelihood

    bar = tqdm(total=100, disable=None, leave=False, bar_format="{l_bar}{bar}| {elapsed}")
    report = measure_likelihood(
        model,
        data=data,
        n=n,
        part=part,
        bound=bound,
        steps=steps,
        continuous=continuous,
        variance=variance,
        strata=strata,
        repeats=repeats,
        method=method,
        tol=tol,
        solver_steps=solver_steps,
        exact=exact,
        probes=probes,
        conditional=conditional,
        seed=seed,
        batch=batch,
        precision=precision,
        device=device,
        progress=lambda share: bar.update(round(100 * share) - bar.n),
    )
    bar.close()
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(_text(report))


def _text(report: LikelihoodReport) -> str:
    mean, low, high = report.interval()
    bits = [report.in_bits(-v) for v in (mean, high, low)]
    made = report.likelihood
    kind = {"exact": "exact", "bound": "a lower bound on log p", "estimate": "an unbiased estimate"}
    lines = [
        f"{report.model} on {report.data}, given {report.given}",
        f"{report.computed}: {kind[made.kind]}; {report.units}, dequantisation "
        f"{made.dequantisation}",
        f"  bits/dim  {bits[0]:.4f}  ({bits[1]:.4f} to {bits[2]:.4f})",
        f"  nats      {mean:.3f}  ({low:.3f} to {high:.3f}) a sample of {made.dimensions} numbers",
        f"  nfe       {made.nfe} a sample",
    ]
    if report.bound is not None:
        lines += ["", f"  {'−log p by term':16}{'nats':>14}{'bits/dim':>12}"]
        for name, nats in report.terms():
            lines.append(f"  {name:16}{nats:14.4f}{report.in_bits(nats):12.5f}")
    return "\n".join(lines)
