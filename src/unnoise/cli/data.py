"""`unnoise data check`."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..data import Checked
    from ..recipes.outlook import Outlook

app = typer.Typer(help="Check data before training on them.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Check data before training on them."""


@app.command("check")
def check(
    path: Annotated[
        str,
        typer.Argument(
            help="A folder of pictures, .npy, .npz, parquet or tar shards (a file, a folder, "
            "or a pattern such as 'train-{000..009}.tar'), or a built-in name."
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="As for train, such as data.layout=NCL."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Crop and resize pictures to this side, as in training.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many lines of a list to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Check data: list what is there, everything that is wrong, and what training would do.

    Exit code 0 if the printed command would train, 1 if training would be refused.
    """
    from ..data import check as check_data
    from ..recipes.choose import data_options
    from ..recipes.outlook import Outlook, outlook

    overrides = list(overrides or [])
    options: dict[str, Any] = {} if size is None else {"size": size}
    options |= data_options(overrides)
    found = check_data(path, **options)
    side = found.proposed_size if size is None else size
    if found.sound:
        would = outlook(path, size=side, overrides=overrides)
    else:
        would = Outlook(refusal=found.faults[0].message)
    command = _command(path, side, overrides)
    if as_json:
        tree = found.to_dict() | {
            "training": would.to_dict(),
            "command": None if would.refusal else command,
        }
        typer.echo(json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo("\n".join([*_data(found, limit), *_training(found, would, command)]))
    raise typer.Exit(1 if would.refusal else 0)


def _command(path: str, side: int | None, overrides: list[str]) -> str:
    from .output import program

    parts = ["train", *overrides, "--data", path]
    parts += [] if side is None else ["--size", str(side)]
    return f"{program()} {shlex.join(parts)} --budget 10m"


def _data(found: Checked, limit: int) -> list[str]:
    kind = "" if found.shape is None else f" ({found.source}: {found.modality}, {found.channels})"
    lines = [f"{found.what}{kind}", f"samples       {found.samples:,}"]
    for name, table in (("sizes (h × w)", found.sizes), ("stored as", found.modes)):
        if table:
            lines.append(f"{name:13} {_table(table, limit)}")
    if found.shape is not None and found.low is not None and found.high is not None:
        lines.append(f"read as       {found.shape}, {found.stored}")
        lines.append(f"range         {found.low:g} to {found.high:g}")
        pairs = zip(found.mean, found.std, strict=True)
        means = ", ".join(f"{mean:.4g} ± {std:.4g}" for mean, std in list(pairs)[:limit])
        lines.append(f"mean ± std    {means}")
    if found.labels is not None:
        lines.append(f"labels        {len(found.labels)}: {_table(found.labels, limit)}")
    if found.columns:
        lines.append("columns       " + ", ".join(found.columns))
        for name, kinds in list(found.columns.items())[:limit]:
            lines.append(f"  {name}: {' or '.join(kinds) or 'no condition: text, gaps or mixed'}")
    for name, meaning in found.conditions.items():
        lines.append(f"conditioned   on {name}, {meaning}")
    if found.same:
        more = sum(len(group) - 1 for group in found.same)
        lines.append(f"duplicates    {more} sample(s) are copies of others")
        lines += [f"  {' = '.join(group[:4])}" for group in found.same[:limit]]
        if found.contradicting:
            lines.append(f"  {found.contradicting} group(s) of copies have different labels")
    if found.alike:
        lines.append(f"look alike    {len(found.alike)} pair(s)")
        lines += [f"  {a} ~ {b}" for a, b in found.alike[:limit]]
    elif found.alike is None and found.samples:
        lines.append("look alike    not compared: too many pictures")
    if found.left_out:
        lines.append(f"left out      {len(found.left_out)} file(s) that are no samples")
        lines += [f"  {name}" for name in found.left_out[:limit]]
    lines += [f"note          {note}" for note in found.notes]
    if found.counts:
        counts = ", ".join(f"{kind} {count:,}" for kind, count in found.counts.items())
        lines.append(f"faults        {sum(found.counts.values()):,}: {counts}")
        lines += [f"  {fault.message}" for fault in found.faults[:limit]]
        if len(found.faults) > limit:
            lines.append(f"  … (--limit {len(found.faults)} shows more, --json all)")
    return lines


def _training(found: Checked, would: Outlook, command: str) -> list[str]:
    if would.refusal is not None:
        return [f"training      refused: {would.refusal}"]
    where = "read from its files" if would.streamed else "in memory"
    crop = f", cropped and resized to {found.proposed_size}" if found.proposed_size else ""
    held = f"{would.validation:,} held out" + (f", {would.test:,} to test" if would.test else "")
    return [
        f"training      on {would.train:,} samples, {held}, batches of {would.batch}",
        f"  sample      {would.shape}, {would.channels}{crop}; {would.normalisation}: less "
        f"{_numbers(would.mean)}, over {_numbers(would.std)}",
        f"  memory      data {_bytes(would.data_bytes)} {where}; model and optimizer "
        f"{_bytes(would.model_bytes)}, and activations",
        f"  network     {would.network}, {would.parameters:,} parameters"
        + ", made larger or smaller for the time given" * would.fitted,
        "",
        command,
    ]


def _table(table: dict[str, int], limit: int) -> str:
    shown = ", ".join(f"{name} ({count:,})" for name, count in list(table.items())[:limit])
    return shown + (f" and {len(table) - limit} more" if len(table) > limit else "")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values[:4]) + (" …" if len(values) > 4 else "")


def _bytes(count: int) -> str:
    if count < 2**20:
        return f"{count / 2**10:,.1f} KiB"
    return f"{count / 2**20:,.1f} MiB" if count < 2**30 else f"{count / 2**30:,.1f} GiB"
