"""A page's commands, run in this process with small budgets; by what rule stands in `RULES`."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from unnoise.cli import main

from .pages import ROOT

# what a page says → what is run instead: everything else is run as it stands
RULES: tuple[tuple[str, str, str], ...] = (
    # verb, pattern, replacement
    ("train", r"--budget [\w.]+", "train.steps=2"),
    ("train", r"train\.(steps|budget)=[\w.]+", "train.steps=2"),
    ("train", r"^digits", "digits 'network.widths=[8]'"),
    ("train", r"--size (\d+)", "--size 16"),
    ("sample", r"(--n|-n) \d+", r"\1 2"),
    ("evaluate", r"(--n|-n) \d+", r"\1 20"),
    ("likelihood", r"(--n|-n) \d+", r"\1 2"),
)
# verb → words that are added where the page does not say them
ADDED: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (("train.reports", "train.reports=1"),),
    "evaluate": (("-n", "--n 20"), ("--features", "--features pca")),  # trains no classifier
    "doctor": (("-n", "--n 20"),),
    "likelihood": (("-n", "--n 2"),),
    "tune": (("--starts", "--starts 16"), ("--tries", "--tries 1")),
}
# words of the shell that are no part of the library: (the first words, why they are not run)
SHELL_ONLY = {
    "source": "enters the virtual environment",
    "pip": "installs",
    "kill": "sends a signal",
}
# exit codes that a verb may end with where the page says nothing: the stand-in for a trained run
# had two updates, and the doctor finds that it has learned nothing
ENDS = {"doctor": (0, 1)}
CODE_RULES = ((r"train\.(steps=\d\d+|budget=\w+)", "train.steps=2"),)


def cut(words: list[str]) -> list[str]:
    """A command's words with their budgets cut by the rules."""
    verb, rest = words[0], " ".join(map(shlex.quote, words[1:]))
    for name, pattern, instead in RULES:
        if name == verb:
            rest = re.sub(pattern, instead, rest)
    if verb == "train" and not re.search(r"train\.steps=", rest) and "--resume" not in rest:
        rest += " train.steps=2"
    for sign, words_ in ADDED.get(verb, ()):
        kept = {"train": "--resume", "evaluate": "--samples"}.get(verb)
        if sign not in rest and (kept is None or kept not in rest):
            rest += f" {words_}"
    return [verb, *shlex.split(rest)]


def run(line: str) -> tuple[int, str] | None:
    """Run one line: (exit code, what it said); None for what belongs to the shell alone."""
    words = shlex.split(line, comments=True)
    if not words or words[0] in SHELL_ONLY:
        return None
    if words[0] == "make":
        for target in words[1:]:
            assert target in targets(), f"{line!r}: the Makefile has no target {target!r}"
        return None
    if words[:3] == ["python", "-m", "unnoise"]:
        words = ["unnoise", *words[3:]]
    if words[0] == "python" and (ROOT / words[1]).is_file():
        return None  # a script of the repository: that it is there is what can be checked
    assert words[0] == "unnoise", f"{line!r}: this harness cannot run it; mark it `not run`"
    words, into = (words[:-2], words[-1]) if ">" in words else (words, None)
    code, said = in_process(cut(words[1:]) if len(words) > 1 else [])
    if into is not None:
        Path(into).write_text(said, "utf-8")
    return code, said


def in_process(words: list[str]) -> tuple[int, str]:
    """`unnoise WORDS` here: exit code, and what went to both streams."""
    said, code = io.StringIO(), 0
    with redirect_stdout(said), redirect_stderr(said):
        try:
            main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, said.getvalue()


def targets() -> set[str]:
    """The Makefile's targets."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


def fits(shown: list[str], said: str) -> bool:
    """Whether what a page shows is what was said; … stands for anything, alone for any lines."""
    shown = [line for line in shown if line.strip()]
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else _line(line) + r"[ \t]*\n" for line in shown
    )
    text = "".join(f"{line}\n" for line in said.splitlines() if line.strip())
    return re.fullmatch(pattern, text) is not None


def _line(line: str) -> str:
    return ".*".join(map(re.escape, line.rstrip().split("…")))


def small(code: str) -> str:
    """Python of a page with its budgets cut."""
    for pattern, instead in CODE_RULES:
        code = re.sub(pattern, instead, code)
    return code
