"""What CONTRIBUTING.md names is there: files and folders, targets of make, names in the sources."""

import re

from .pages import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
QUOTED = re.findall(r"`([^`\n]+)`", TEXT)
# the open places of a pattern, and what nobody can look up
OPEN = {"N": "*", "NAME": "*"}


def test_every_file_and_folder_is_there():
    rooms = ROOT / "src" / "unnoise"
    places = [
        name for name in QUOTED if re.fullmatch(r"[\w.*/-]+/[\w.*-]*|[\w*-]+\.(py|md|toml)", name)
    ]
    assert len(places) > 50
    for place in places:
        pattern = "/".join(OPEN.get(part, part) for part in place.rstrip("/").split("/"))
        bases = (ROOT, rooms, rooms / "solvers", ROOT / "benchmarks")
        found = any(next(base.glob(pattern), None) for base in bases)
        assert found or next(rooms.rglob(pattern), None), f"CONTRIBUTING.md names {place}"


def test_every_target_of_make_is_there():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = set(re.findall(r"\bmake ([\w-]+)", TEXT))
    assert {"test", "test-all", "mutations", "lint"} <= named <= set(targets)


def test_every_name_is_in_the_sources():
    folders = ("src", "tests", "benchmarks", "claims", "tools")
    sources = "\n".join(
        path.read_text("utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")
    )
    sources += "".join((ROOT / file).read_text("utf-8") for file in ("Makefile", "pyproject.toml"))
    known = set(re.findall(r"\w+", sources))
    names = [name.lstrip("@") for name in QUOTED if re.fullmatch(r"@?[A-Za-z_][\w.]*", name)]
    lost = [name for name in names if not set(name.split(".")) <= known | {"py", "md", "toml"}]
    assert len(names) > 50
    assert not lost, lost


def test_every_target_is_explained_by_make_help():
    text = (ROOT / "Makefile").read_text("utf-8")
    (line,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    explained = set(re.findall(r'@echo "make ([\w-]+)', text))
    assert set(line.split()) - {"help", "clean"} == explained
