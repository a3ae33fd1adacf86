"""Sphinx's configuration; `make docs` lays out the pages and runs it (tools/docs/build.py)."""

from __future__ import annotations

import re
from typing import Any

import latex2mathml.converter

project = "unnoise"
author = "the authors of unnoise"
html_title = "unnoise"
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
default_role = "code"
toc_object_entries = False  # every name on every page would take half of the time
suppress_warnings = ["myst.header", "ref.python"]  # pages made by others; names in two rooms
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88


def formula(node: Any, display: str) -> str:
    """Return MathML of a formula, which browsers draw without a script."""
    return latex2mathml.converter.convert(node.astext(), display=display)


def inline(translator: Any, node: Any) -> None:
    """Write a formula inside a line, and nothing below it."""
    from docutils import nodes

    translator.body.append(formula(node, "inline"))
    raise nodes.SkipNode


def block(translator: Any, node: Any) -> None:
    """Write a formula on a line of its own."""
    from docutils import nodes

    translator.body.append(f'<div class="math">{formula(node, "block")}</div>')
    raise nodes.SkipNode


def plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape a docstring, which is plain text with `code`.

    Stars, underscores and bars are literal.
    """
    paragraphs = "\n".join(lines).split("\n\n")
    lines[:] = "\n\n".join(laid_out(paragraph) for paragraph in paragraphs).split("\n")


def laid_out(paragraph: str) -> str:
    """Return a paragraph escaped; lines of different indentation stay lines."""
    found = escaped(paragraph).split("\n")
    if len({len(line) - len(line.lstrip()) for line in found if line.strip()}) < 2:
        return "\n".join(found)
    return "\n".join(f"| {line}" for line in found if line.strip())


def escaped(text: str) -> str:
    """Return text with `code` as a literal, whatever is beside it; the rest as plain characters."""
    parts = re.split(r"`([^`]+)`", text)
    for k, part in enumerate(parts):
        if k % 2:
            before = r"\ " if re.search(r"\w$", parts[k - 1]) else ""
            after = r"\ " if re.match(r"\w", parts[k + 1]) else ""
            parts[k] = f"{before}``{' '.join(part.split())}``{after}"
        else:
            parts[k] = re.sub(r"([\\*|`]|_\b)", r"\\\1", part)
    return "".join(parts)


def setup(app: Any) -> dict[str, bool]:
    """Register the formulas and the docstrings' reading."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("autodoc-process-docstring", plain)
    return {"parallel_read_safe": True}
