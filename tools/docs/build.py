"""Build the documentation's site: `make docs`, or `python tools/docs/build.py [OUT]`.

The pages of docs/ are laid out in a temporary folder beside those made from the code (command
line, one reference page a room) and from the repository's own files, and Sphinx makes HTML of
them; a link that leads nowhere is an error. Nothing is fetched, then or when the pages are read.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
OWN = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")  # the repository's own files, as pages


def lay_out(folder: Path) -> None:
    """Write every page to its place on the site."""
    from tools.docs import cli_reference, rooms

    shutil.copytree(ROOT / "docs", folder, dirs_exist_ok=True)
    reference = folder / "reference"
    reference.mkdir()
    (reference / "cli.md").write_text(cli_reference.page(), "utf-8")
    for room in rooms.ROOMS:
        (reference / f"{room}.rst").write_text(rooms.page(room), "utf-8")
    for name in OWN:
        text = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
        if not name.endswith(".md"):
            text = f"# Licence\n\n```text\n{text}\n```\n"
        (folder / f"{Path(name).stem}.md").write_text(text, "utf-8")


def build(out: Path) -> int:
    """Build the site in `out`; return 0 if no page has a warning."""
    from sphinx.cmd.build import build_main

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pages"
        lay_out(source)
        quiet = ["-q", "-W", "--keep-going", "-E", "-d", str(Path(folder) / "doctrees")]
        return build_main([*quiet, "-c", str(Path(__file__).parent), str(source), str(out)])


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    if target.is_dir() and target.resolve() == (ROOT / "site").resolve():
        shutil.rmtree(target)
    code = build(target)
    if code == 0:
        print(f"site: {target / 'index.html'}")
    sys.exit(code)
