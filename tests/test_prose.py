"""The rule of prose: docstrings of functions open with a verb, and none lets code speak."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOMS = Path(__file__).parents[1] / "src/unnoise"
OPENERS = re.compile(
    r"(a|all|an|any|as|at|by|each|every|for|from|how|if|in|it|its|no|of|on|one|some|"
    r"that|the|there|these|this|those|to|what|when|where|whether|which|who|whose|why|with)\b",
    re.IGNORECASE,
)
SPEECH = re.compile(r"\b(says?|said|tells?|told|asks|asked|asking|knows|knew|wants|looks)\b")


def offences(room: Path) -> Counter[str]:
    """Count the docstrings of a room that break each rule."""
    found: Counter[str] = Counter()
    for file in [room] if room.is_file() else room.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            text = ast.get_docstring(node) or ""
            value = isinstance(node, ast.FunctionDef) and any(
                "property" in ast.unparse(each) for each in node.decorator_list
            )
            found["opener"] += (
                isinstance(node, ast.FunctionDef) and not value and bool(OPENERS.match(text))
            )
            found["speech"] += bool(SPEECH.search(text))
    return found


ROOM_PATHS = sorted(path for path in ROOMS.iterdir() if path.name[0] != "_")


@pytest.mark.parametrize("room", ROOM_PATHS, ids=[path.stem for path in ROOM_PATHS])
def test_docstrings_keep_to_the_rule_of_prose(room):
    found = offences(room)
    assert not found["opener"]
    assert not found["speech"]
