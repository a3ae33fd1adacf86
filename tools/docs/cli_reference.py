"""The page of the command line, generated from the verbs themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click
import typer


def verbs() -> Iterator[tuple[str, click.Command]]:
    """Yield every command by its whole name, such as "data check"."""
    from unnoise.cli.main import app

    yield from _below("", typer.main.get_command(app))


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, each in inner.items():
        yield from _below(f"{name} {word}".strip(), each)


def page() -> str:
    """Return the page, as Markdown."""
    lines = [
        "# Command line",
        "",
        "Exit codes: 0 done, 2 something the message says how to mend, 130 interrupted (a run can "
        "be resumed).",
        "",
    ]
    for name, command in verbs():
        lines += [f"## unnoise {name}", "", _prose(command.help), "", "```text"]
        lines += [_usage(name, command), "```", ""]
        rows = [row for parameter in command.params if (row := _row(parameter))]
        if rows:
            lines += ["| argument or option | default | what |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _prose(text: str | None) -> str:
    return " ".join((text or "").split())


def _usage(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"unnoise {name}")
    return " ".join(command.get_usage(context).removeprefix("Usage: ").split())


def names_of(parameter: click.Parameter) -> list[str]:
    """Return the spellings of an option (--n, -n, --exact), or the name of an argument."""
    if parameter.param_type_name == "argument":
        return [parameter.name or ""]
    return [*parameter.opts, *parameter.secondary_opts]


def _row(parameter: click.Parameter) -> str | None:
    if "--help" in parameter.opts:
        return None
    text = " ".join(str(getattr(parameter, "help", "") or "").split())
    default = parameter.default
    shown = "" if default is None or default is False or callable(default) else f"`{default}`"
    if parameter.required:
        shown = "required"
    called = ", ".join(f"`{name}`" for name in names_of(parameter))
    return f"| {called} | {shown} | {text.replace('|', chr(92) + '|')} |"
