"""The documentation's pages as blocks: what is run, what is shown, what is a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
WORDS = ("unnoise", "python", "make", "source", "pip", "kill", "accelerate")
SHELL = ("bash", "console", "sh")
MARK = re.compile(r"<!-- *(not run|exit|shown exactly)(?:: *(.*?))? *-->")
FILE = re.compile(r"^\*\*`([\w./-]+)`\*\*(.*)$")


@dataclass(frozen=True)
class Block:
    """A block of a page. language: of its fence ("" where it is indented); marks: what comments
    before it say; file: the file that a caption says it is; change: it changes that file."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[tuple[str, str], ...]
    file: str | None = None

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def mark(self, name: str) -> str | None:
        return dict(self.marks).get(name)

    @property
    def commands(self) -> list[Command]:
        """The commands of a shell block; in a console those after `$`, with what they said."""
        if self.language != "console":
            lines = [line for line in joined(self.text) if line.strip()]
            return [Command(line.strip(), None) for line in lines if not line.startswith("#")]
        found: list[Command] = []
        for line in joined(self.text):
            if line.startswith("$ "):
                found.append(Command(line[2:].strip(), []))
            elif found and found[-1].said is not None:
                found[-1].said.append(line)
        return found


@dataclass(frozen=True)
class Command:
    """A line to type, and the lines that are shown as its answer."""

    line: str
    said: list[str] | None


def joined(text: str) -> list[str]:
    """The lines, those that end in a backslash together with their next."""
    return text.replace("\\\n", " ").split("\n")


@lru_cache(maxsize=128)
def blocks(page: Path) -> tuple[Block, ...]:
    """Every fenced block of a page, and every indented one that is made of commands."""
    found, marks, caption = [], [], None
    lines = page.read_text("utf-8").split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        fence = re.match(r"^( *)(```+|~~~+)\{?([\w-]*)\}?", line)
        if fence:
            margin, tick, language = fence.groups()
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == tick)
            text = "\n".join(x.removeprefix(margin) for x in lines[at + 1 : end]) + "\n"
            found.append(Block(page, at + 1, language, text, tuple(marks), caption))
            marks, caption, at = [], None, end + 1
            continue
        indented = _indented(lines, at)
        if indented:
            text = "\n".join(x[4:] for x in indented) + "\n"
            if any(x.split() and x.split()[0] in WORDS for x in text.split("\n")):
                found.append(Block(page, at + 1, "", text, tuple(marks)))
            marks, at = [], at + len(indented)
            continue
        said = MARK.match(line.strip())
        if said:
            marks.append((said[1], said[2] or ""))
        elif line.strip():
            marks = []
            shown = FILE.match(line)
            caption = shown[1] if shown else None
        at += 1
    return tuple(found)


def _indented(lines: list[str], at: int) -> list[str]:
    """The indented block that begins here, after an empty line; none inside a list."""
    if not lines[at].startswith("    ") or (at and lines[at - 1].strip()):
        return []
    before = [x for x in lines[:at] if x.strip()]
    if before and re.match(r"^\s*([-*]|\d+\.) ", before[-1]):
        return []
    end = at
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return lines[at:end]


def is_shell(block: Block) -> bool:
    """Whether a block is made of commands."""
    return block.language in SHELL or block.language == ""
