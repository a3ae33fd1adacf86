"""`unnoise`: exit code 0 ok, 2 for what the user can mend, 130 interrupted."""

from __future__ import annotations

import sys

import typer

from ..errors import UnnoiseError
from . import demo, evaluate, recipes, sample, train

app = typer.Typer(
    name="unnoise",
    help="Train a generative model on your own data, sample it in a few steps, measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("evaluate")(evaluate.evaluate)
app.command("recipes")(recipes.recipes)
app.command("demo")(demo.demo)


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
        app(args=arguments, standalone_mode=True)
    except UnnoiseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
