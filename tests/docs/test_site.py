"""The site: it builds without a complaint, no link leads nowhere, nothing is fetched.

What needs the built site runs in `make test-all`; `make docs` itself fails where a page complains.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest

from tools.docs import cli_reference, rooms

from .pages import PAGES, ROOT


class Page(HTMLParser):
    """What a page points to, what it loads, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("img", "script", "source", "iframe") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("href") and "canonical" not in given.get("rel", ""):
            self.loads.append(given["href"])


@pytest.fixture(scope="session")
def site(shared):
    """The built site: every page by its path, and the folder."""
    out = shared("site", build)
    said = (out / "said.txt").read_text("utf-8")
    assert said.startswith("0 "), said
    return out, {path: Page(path.read_text("utf-8")) for path in out.rglob("*.html")}


def build(out):
    """Build it, and keep the exit code and what was said."""
    made = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "docs" / "build.py"), str(out)],
        capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    (out / "said.txt").write_text(f"{made.returncode} {made.stdout}{made.stderr}", "utf-8")


@pytest.mark.exhaustive
def test_every_link_and_picture_is_there(site):
    folder, pages = site
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            if re.match(r"(https?:|mailto:|data:)", link):
                continue
            place, _, anchor = link.partition("#")
            target = (path.parent / unquote(place.partition("?")[0])).resolve() if place else path
            if not target.is_file():
                broken.append(f"{path.relative_to(folder)}: {link}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                broken.append(f"{path.relative_to(folder)}: {link} (no such place in it)")
    assert not broken, "\n".join(broken)
    assert sum(len(page.links) for page in pages.values()) > 500


@pytest.mark.exhaustive
def test_nothing_is_fetched_to_read_it(site):
    folder, pages = site
    loads = [load for page in pages.values() for load in page.loads]
    assert not [load for load in loads if re.match(r"(https?:)?//", load)]
    for sheet in folder.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text("utf-8")), (
            sheet
        )


@pytest.mark.exhaustive
def test_formulas_need_no_script(site):
    folder, pages = site
    page = folder / "concepts" / "path.html"
    text = page.read_text("utf-8")
    assert text.count("<math ") >= 5
    assert "\\alpha" not in re.sub(r"<annotation.*?</annotation>", "", text)
    assert not [load for load in pages[page].loads if "mathjax" in load.lower()]


@pytest.mark.exhaustive
@pytest.mark.parametrize("room", rooms.ROOMS)
def test_every_public_name_has_its_entry(site, room):
    folder, pages = site
    page = folder / "reference" / f"{room}.html"
    text = page.read_text("utf-8")
    module = sys.modules[rooms.module_of(room)] if room == "unnoise" else None
    names = [n for n in rooms.public(room) if n not in ("__version__",)]
    assert names or module
    missing = [
        n for n in names
        if f"{rooms.module_of(room)}.{n}" not in pages[page].anchors and f">{n}<" not in text
    ]  # fmt: skip
    assert not missing, f"{room}: {missing}"


def test_every_room_with_an_init_is_in_the_reference():
    there = {
        str(path.parent.relative_to(ROOT / "src" / "unnoise")).replace("/", ".")
        for path in (ROOT / "src" / "unnoise").rglob("__init__.py")
    }
    named = {
        room for room in there if hasattr(import_module(f"unnoise.{room}".rstrip(".")), "__all__")
    }
    # the command line has a page of its own
    assert named - {*rooms.ROOMS, ".", "cli"} == set()


@pytest.mark.exhaustive
def test_every_verb_and_option_is_on_the_command_lines_page(site):
    folder, _ = site
    text = (folder / "reference" / "cli.html").read_text("utf-8")
    found = list(cli_reference.verbs())
    assert {"train", "sample", "evaluate"} <= {name for name, _ in found}
    for name, command in found:
        assert f"unnoise {name}" in text
        for parameter in command.params:
            for word in cli_reference.names_of(parameter):
                assert word == "--help" or f">{word}<" in text, f"unnoise {name}: {word}"


def test_every_verb_is_used_on_a_page_of_the_guide():
    text = "".join(path.read_text("utf-8") for path in PAGES)
    for name, _ in cli_reference.verbs():
        assert f"unnoise {name}" in text, f"no page shows `unnoise {name}`"


def test_every_relative_link_of_the_sources_is_there():
    """As the repository shows them, where the reference and the command line have no file."""
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if not re.match(r"https?:", link) and "reference/" not in link:
                made = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE.md"}
                there = (page.parent / link).exists() or Path(link).name in made
                assert there, f"{page.name}: {link}"
