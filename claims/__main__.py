"""`python -m claims` (`make claims`): measure again what introductions to diffusion claim."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unnoise.cli.output import check_folder
from unnoise.errors import InvalidArgument, UnnoiseError

from . import CHAPTERS, chosen, run, write
from .report import show


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Claims or chapters; all of them unless named."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for claims.md and claims.json.  [docs; none with names]"),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only list them.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is known.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep results made with other code of the library.")
    ] = False,
    cache: Annotated[Path, typer.Option(help="Where finished claims are kept.")] = Path(
        "runs/claims"
    ),
) -> None:
    """Measure again what introductions to diffusion claim, and list which claims hold."""
    some = chosen(names or [])
    if list_:
        chapter = ""
        for claim in some:
            if claim.chapter != chapter:
                chapter = claim.chapter
                typer.echo(f"\n{chapter}: {CHAPTERS[chapter]}")
            typer.echo(f"  {claim.name:34} {claim.statement}")
        return
    if fresh and keep:
        raise InvalidArgument("--fresh measures everything again, --keep keeps; give one of them")
    folder = out or (None if names else Path("docs"))
    for place in (folder, cache):
        if place is not None:
            check_folder(place)
    results = run(some, cache, keep, fresh, typer.echo)
    if names:
        for result in results:
            typer.echo(f"\n{result.claim.name}: {result.finding.sentence}")
            typer.echo(f"  {result.claim.statement}")
            for label, value in result.finding.measured.items():
                typer.echo(f"    {label}: {show(value)}")
            if result.finding.remark:
                typer.echo(f"  {result.finding.remark}")
    if folder is not None:
        write(results, folder)
        typer.echo(f"\nwritten: {folder / 'claims.md'}, {folder / 'claims.json'}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except UnnoiseError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from error
