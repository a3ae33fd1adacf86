"""The pages that are tables of measured or tested facts.

python tools/docs/tables.py     docs/faults.md and docs/campaigns.md, from faults.yaml and
                                campaigns/*.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST = 40  # rows of a table
NOTE = "<!-- made by tools/docs/tables.py: change {source} instead -->"


def faults(path: Path = DOCS / "faults.yaml") -> dict[str, dict[str, dict[str, Any]]]:
    """Return section → fault → its outcome and its tests."""
    return yaml.safe_load(path.read_text("utf-8"))


def faults_page(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the text of docs/faults.md."""
    count = sum(map(len, rows.values()))
    lines = [
        "# Bad input and faults",
        "",
        NOTE.format(source="docs/faults.yaml"),
        "",
        f"{count} kinds of bad input and faults, each with its outcome and the tests that provoke "
        "it. Errors are of one family (`unnoise.errors.UnnoiseError`), found before work starts "
        "and before anything is written; the command line prints one message and ends with exit "
        "code 2, or 130 if a run was interrupted and can be resumed.",
        "",
    ]
    for section, faults_ in rows.items():
        lines += [f"## {section}", "", "| fault | what happens | shown by |", "|---|---|---|"]
        for fault, row in faults_.items():
            tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in row["tests"])
            lines.append(f"| {fault} | {row['what']} | {tests} |")
        lines.append("")
    return "\n".join(lines)


def campaigns_page(folder: Path = DOCS / "campaigns") -> str:
    """Return the text of docs/campaigns.md, from the JSON of each campaign that was run."""
    lines = [
        "# Campaigns",
        "",
        NOTE.format(source="what the campaigns measure, by `make campaigns`"),
        "",
        "Tests that take too long for the test suite, run by one command:",
        "",
        "    make campaigns",
        "",
        "Each writes its counts to `docs/campaigns/`; this page lists them.",
        "",
    ]
    for path in sorted(folder.glob("*.json")):
        tree = json.loads(path.read_text("utf-8"))
        title = tree.get("title") if isinstance(tree, Mapping) else None
        lines += [f"## {title or path.stem.replace('_', ' ').capitalize()}", ""]
        lines += [*_shown(tree if isinstance(tree, Mapping) else {"entries": tree}), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _shown(tree: Mapping[str, Any]) -> list[str]:
    """Return plain values as one table, then one for every list of rows and tree of counts."""
    plain = {
        k: v if v else "none" if isinstance(v, Mapping | list) else v
        for k, v in tree.items()
        if not (v and isinstance(v, Mapping | list)) and k != "title"
    }
    lines = []
    about = plain.pop("about", None)
    if about:
        lines += [str(about), ""]
    if plain:
        lines += [
            "| | |",
            "|---|---|",
            *(f"| {_words(k)} | {_value(v)} |" for k, v in plain.items()),
        ]
    for key, value in tree.items():
        rows = _rows(value)
        if rows:
            columns = list(dict.fromkeys(name for row in rows for name in row))
            lines += ["", f"**{_words(key)}**", ""]
            lines.append(f"| {' | '.join(map(_words, columns))} |")
            lines.append("|---" * len(columns) + "|")
            lines += [
                f"| {' | '.join(_value(row.get(c)) for c in columns)} |" for row in rows[:MOST]
            ]
            lines += ["", f"… and {len(rows) - MOST} more."] * (len(rows) > MOST)
    return lines


def _rows(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, Mapping):
        if value and all(isinstance(inner, Mapping) for inner in value.values()):
            return [{"": _words(name), **inner} for name, inner in value.items()]
        return [{"": _words(name), "count": inner} for name, inner in value.items()]
    if isinstance(value, list):
        return [dict(v) if isinstance(v, Mapping) else {"": v} for v in value]
    return []


def _words(name: Any) -> str:
    return str(name).replace("_", " ")


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(k)} {_value(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_value, value))
    return str(value).replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write both pages."""
    (DOCS / "faults.md").write_text(faults_page(faults()), "utf-8")
    (DOCS / "campaigns.md").write_text(campaigns_page(), "utf-8")


if __name__ == "__main__":
    main()
