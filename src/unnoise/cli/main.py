"""The command `unnoise`.

Exit codes: 0 success; 1 `doctor` found a fault, or `data check` that training would be refused;
2 an error that the user can mend; 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
import typer.core

from ..errors import UnnoiseError
from . import (
    average,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    likelihood,
    recipes,
    sample,
    solvers,
    support,
    train,
    tune,
)


class _Verbs(typer.core.TyperGroup):
    """The verbs; an interruption prints its message, which typer alone would drop."""

    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt as stop:
            print(str(stop) or "interrupted", file=sys.stderr)
            raise typer.Exit(130) from stop


app = typer.Typer(
    name="unnoise",
    cls=_Verbs,
    help="Train a generative model on your own data, sample it in a few steps, measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("evaluate")(evaluate.evaluate)
app.command("doctor")(doctor.doctor)
app.command("compare")(compare.compare)
app.command("likelihood")(likelihood.likelihood)
app.command("tune")(tune.tune)
app.command("average")(average.average)
app.command("recipes")(recipes.recipes)
app.command("solvers")(solvers.solvers)
app.command("support")(support.support)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from .. import __version__

        typer.echo(f"unnoise {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every expected failure is one message on standard error."""
    try:
        app(args=arguments, prog_name="unnoise", standalone_mode=True)
    except UnnoiseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder without permission
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
