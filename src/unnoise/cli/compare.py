"""`unnoise compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def compare(
    a: Annotated[Path, typer.Argument(help="A card: card.json, or the folder of a run.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compare two metric cards: which is better, and by how many standard errors."""
    from ..evaluation import compare as put_beside
    from ..evaluation import load_card

    found = put_beside(load_card(a), load_card(b))
    if as_json:
        tree = {"a": str(a), "b": str(b), **found.to_dict()}
        typer.echo(json.dumps(tree, ensure_ascii=False, allow_nan=False, indent=2))
    else:
        typer.echo(f"A: {a}\nB: {b}\n\n{found.to_text()}")
