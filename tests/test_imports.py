"""Modules of the package import each other in one direction, and no private name leaves its file.

Every import statement is read from the sources, those inside functions included. An import that
runs, whenever it runs, must not close a circle; one under `if TYPE_CHECKING:` may not either.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(SOURCES.rglob("*.py"))}


def imports(
    tree: ast.AST, typing: bool = False
) -> Iterator[tuple[ast.ImportFrom | ast.Import, bool]]:
    """Yield every import statement, and whether a TYPE_CHECKING block holds the statement."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, typing
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for part in node.body:
                yield from imports(ast.Module([part], []), True)
            for part in node.orelse:
                yield from imports(ast.Module([part], []), typing)
        else:
            yield from imports(node, typing)


def targets(module: str, node: ast.ImportFrom | ast.Import) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of all that a statement of `module` imports; "" names a whole module."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, ""
        return
    here = module.split(".") + ["__init__"] * (FILES[module].name == "__init__.py")
    parts = here[: -node.level] if node.level else []
    source = ".".join([*parts, *([node.module] if node.module else [])])
    for alias in node.names:
        whole = f"{source}.{alias.name}"
        yield (whole, "") if whole in FILES else (source, alias.name)


def graph(typing: bool) -> dict[str, set[str]]:
    """Return the modules that each module imports: at run time, or with annotations' as well."""
    return {
        module: {
            target
            for node, only_typing in imports(ast.parse(path.read_text(encoding="utf-8")))
            for target, _ in targets(module, node)
            if target in FILES and target != module and typing >= only_typing
        }
        for module, path in FILES.items()
    }


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach each other (Tarjan's components, larger than one)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(edges[module]):
            if other not in order:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == order[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(set(stack[at:]))
            del stack[at:]

    for module in edges:
        if module not in order:
            visit(module)
    return found


def shown(circle: set[str], edges: dict[str, set[str]]) -> str:
    return "; ".join(f"{m} imports {', '.join(sorted(edges[m] & circle))}" for m in sorted(circle))


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("typing", [False, True], ids=["run time", "types too"])
def test_no_modules_import_each_other(typing):
    edges = graph(typing)
    wrong = [shown(found, edges) for found in circles(edges)]
    assert not wrong, "\n".join(wrong)


def test_no_private_name_is_imported():
    wrong = {
        f"{module} imports {target}.{name}"
        for module, path in FILES.items()
        for node, _ in imports(ast.parse(path.read_text(encoding="utf-8")))
        for target, name in targets(module, node)
        if target in FILES and any(map(private, (*target.split("."), name)))
    }
    assert not wrong, wrong


def test_circles_are_seen(monkeypatch):
    """Three modules in a ring, one import of theirs inside a function; a fourth outside."""
    ring = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set(), "e": {"a"}}
    assert circles(ring) == [{"a", "b", "c"}]
    assert not circles({**ring, "c": {"d"}})
    text = "def f():\n    from . import b\nif TYPE_CHECKING:\n    from .c import _d, e\nimport os"
    found = {
        target: typing
        for node, typing in imports(ast.parse(text))
        for target in targets("unnoise.paths", node)
    }
    assert found == {
        ("unnoise.paths", "b"): False,
        ("unnoise.paths.c", "_d"): True,
        ("unnoise.paths.c", "e"): True,
        ("os", ""): False,
    }


# distributions whose module has another name, or is imported for us by the module of another
MODULES = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "pot": "ot",
    "scikit-learn": "sklearn",
    "tensorboard": "torch.utils.tensorboard",
    "pytest-xdist": "xdist",
    "types-PyYAML": "yaml",
}
BESIDE = {"k_diffusion", "azula", "torchcfm"}  # the Makefile installs these without requirements


def declared(requirements: list[str]) -> set[str]:
    names = [re.split(r"[^\w-]", line, maxsplit=1)[0] for line in requirements]
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def foreign(names: set[str]) -> set[str]:
    """Return the modules that must come from a distribution, by their first name."""
    whole = names & set(MODULES.values())
    own = {"unnoise", "tests", "benchmarks", "claims", "tools"}
    return whole | {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - own


def test_what_is_declared_is_imported_and_what_is_imported_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = declared(project["dependencies"])
    optional = declared(project["optional-dependencies"]["parquet"])
    used = foreign(
        {
            target
            for module, path in FILES.items()
            for node, _ in imports(ast.parse(path.read_text(encoding="utf-8")))
            for target, _ in targets(module, node)
        }
    )
    assert used - {"diffusers"} <= needed | optional, "imported, and not declared"
    assert needed | optional <= used, "declared, and imported nowhere"


def test_what_tests_and_tools_import_of_the_package_is_there():
    """Imports inside functions included, some of which run only now and then."""
    folders = ("tests", "benchmarks", "claims", "tools")
    lost = []
    for path in sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        for node, _ in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.level:
                continue
            if (node.module or "").split(".")[0] != "unnoise":
                continue
            for alias in node.names:
                if f"{node.module}.{alias.name}" in FILES:
                    continue
                if node.module not in FILES or not hasattr(import_module(node.module), alias.name):
                    lost.append(f"{path.relative_to(ROOT)}: {node.module}.{alias.name}")
    assert not lost, "\n".join(lost)
