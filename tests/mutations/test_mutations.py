"""A sample of the mutations is caught (all of them by `make mutations`), and misses are seen."""

import ast
import json
import re
import subprocess
import sys
import types

import pytest

from tests.mutations.planting import Mutation, NoPlace, Patch
from tests.mutations.runner import ROOT, load, sample, verdict


@pytest.mark.parametrize("part", ["1/2", "2/2"])
def test_a_sample_is_caught(part):
    command = ["-m", "tests.mutations", "--sample", "20", "--part", part, "--jobs", "1"]
    made = subprocess.run(
        [sys.executable, *command, "--no-control"], cwd=ROOT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.count("caught") == 11, made.stdout


def test_a_sample_is_of_every_file():
    chosen = sample(20, 0)
    assert len({m.name for m in chosen}) == 20
    rooms = {m.room for m in load().values()}
    assert {m.room for m in chosen} == rooms
    assert [m.name for m in sample(20, 1)] != [m.name for m in chosen]


def test_every_test_that_a_mutation_names_is_there():
    for mutation in load().values():
        assert mutation.tests, mutation.name
        for test in mutation.tests:
            file, _, name = test.partition("::")
            tree = ast.parse((ROOT / file).read_text("utf-8"))
            names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert not name or re.sub(r"\[.*", "", name) in names, f"{mutation.name}: {test}"


def test_a_function_is_replaced_under_every_name_it_has(monkeypatch):
    def right(x):
        return x

    first, second = types.ModuleType("unnoise.first"), types.ModuleType("unnoise.second")
    first.right = second.alias = right
    for module in (first, second):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    Patch().result(first, "right", lambda found, x: found + x)
    assert first.right(3) == second.alias(3) == 6
    for gone in (lambda: Patch().attribute(first, "left", 0), lambda: Patch().item({}, "a", 0)):
        with pytest.raises(NoPlace):
            gone()


def test_methods_and_properties_are_replaced():
    class Thing:
        @property
        def size(self):
            return 2

        @staticmethod
        def twice(x):
            return 2 * x

    Patch().result(Thing, "size", lambda found, thing: found + 1)
    Patch().around(Thing, "twice", lambda right: lambda x: right(x) + 1)
    assert (Thing().size, Thing().twice(3)) == (3, 7)


@pytest.mark.parametrize(
    ("failed", "errors", "words"),
    [
        ({"tests/a.py::test_b[1]": ["AssertionError"]}, [], ""),
        ({"tests/a.py::test_b": ["Unsupported"]}, [], ""),
        ({}, [], "survived tests/a.py::test_b"),
        ({"tests/a.py::test_bc": ["AssertionError"]}, [], "survived tests/a.py::test_b"),
        ({"tests/a.py::test_b": ["TypeError"]}, [], "ends in a TypeError"),
        ({}, ["tests/a.py: SyntaxError"], "its tests could not"),
    ],
)
def test_what_counts_as_caught(failed, errors, words, tmp_path):
    outcome = {"failed": failed, "errors": errors, "ran": ["tests/a.py::test_b"]}
    (tmp_path / "said.txt").write_text("1 failed")
    (tmp_path / "outcome.json").write_text(json.dumps(outcome))
    found = verdict(Mutation("a bug", ("tests/a.py::test_b",), lambda patch: None), tmp_path)
    assert found.startswith(words)
    assert bool(found) == bool(words)


def test_a_mutation_that_cannot_be_planted_is_no_success(tmp_path):
    (tmp_path / "said.txt").write_text("NoPlace: paths has no alpha of its own")
    found = verdict(Mutation("a bug", ("tests/a.py::test_b",), lambda patch: None), tmp_path)
    assert "NoPlace" in found
