"""`unnoise doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..pipelines.doctor import Report


def doctor(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.")],
    n: Annotated[int, typer.Option("--n", "-n", help="How many samples to draw.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of samples and noise.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the findings here too, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Find out why a run gives only noise, or that it is well; exit code 1 if there is a fault."""
    from ..errors import InvalidArgument
    from ..pipelines.doctor import doctor as examine
    from ..safe_files.files import write_bytes
    from .output import check_folder

    if out is not None:
        if out.is_dir():
            raise InvalidArgument(f"--out is {str(out)!r}, a folder; give a file")
        check_folder(out.parent)
        if not out.parent.is_dir():
            raise InvalidArgument(f"there is no folder {out.parent}; make it first")
    report = examine(run, n=n, seed=seed)
    text = json.dumps(report.to_dict(), ensure_ascii=False, allow_nan=False)
    if out is not None:
        write_bytes(out, f"{text}\n".encode())
    typer.echo(text if as_json else _text(report))
    if report.faults:
        raise typer.Exit(1)


def _text(report: Report) -> str:
    from textwrap import wrap

    width = max(len(f.check) for f in report.findings) + 2
    marks = {"fault": "FAULT", "warning": "warning", "fine": "fine", "not done": "not done"}
    lines = [f"{report.run}: recipe {report.recipe}, weights examined: {report.weights}", ""]
    for finding in report.findings:
        text = finding.measured
        if finding.severity in ("fault", "warning") and finding.threshold:
            text += f" (wanted: {finding.threshold})"
        head = f"{marks[finding.severity]:10}{finding.check:{width}}"
        lines += wrap(text, 100, initial_indent=head, subsequent_indent=" " * len(head))
        if finding.remedy:
            lines += wrap(
                finding.remedy, 100, initial_indent=" " * len(head) + "→ ",
                subsequent_indent=" " * len(head) + "  ",
            )  # fmt: skip
    faults = ", ".join(report.faults)
    end = f"{len(report.faults)} fault(s): {faults}" if faults else "no fault was found"
    undone = sum(finding.severity == "not done" for finding in report.findings)
    lines += ["", f"{end}; {undone} check(s) could not be done" if undone else end]
    return "\n".join(lines)
