"""Plant mutations one at a time, each in a forked process, and see which tests fail."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tests.mutations

from .planting import MUTATIONS, Mutation, Patch

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST = 300.0  # seconds for the tests of one mutation
OPTIONS = ("-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", "-W", "ignore")
# what a mistake in a mutation raises; a wrong formula fails an assertion or is refused
MISTAKES = ("TypeError", "NameError", "AttributeError", "UnboundLocalError", "ImportError")


def load() -> dict[str, Mutation]:
    """Import every file of mutations beside this one and return all mutations by name."""
    for found in pkgutil.iter_modules(tests.mutations.__path__):
        if found.name not in ("planting", "runner", "__main__") and found.name[:5] != "test_":
            importlib.import_module(f"tests.mutations.{found.name}")
    return MUTATIONS


def sample(count: int, seed: int) -> list[Mutation]:
    """Return `count` mutations, as many of each file as can be, drawn with `seed`."""
    draw, rooms = random.Random(seed), dict[str, list[Mutation]]()
    for mutation in load().values():
        rooms.setdefault(mutation.room, []).append(mutation)
    for members in rooms.values():
        draw.shuffle(members)
    turns = [m for k in range(len(MUTATIONS)) for r in rooms.values() for m in r[k : k + 1]]
    return turns[:count]


class Outcomes:
    """A pytest plugin: the exception types of tests that failed, and what was not collected."""

    def __init__(self) -> None:
        self.failed: dict[str, list[str]] = {}
        self.ran: list[str] = []
        self.errors: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
        report = yield
        if report.failed:
            self.failed.setdefault(item.nodeid, []).append(call.excinfo.typename)
        if report.when == "call":
            self.ran.append(item.nodeid)
        return report

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.errors.append(f"{report.nodeid}: {str(report.longrepr)[-300:]}")


def warm_up() -> None:
    """Import what every forked process needs: pytest's plugins, and what most tests import."""
    torch.set_num_threads(1)
    os.chdir(ROOT)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main([*OPTIONS, "--collect-only", "tests/paths/test_path.py"])
    importlib.import_module("unnoise.solvers")


def tests_in_a_fork(folder: Path, tests: Iterable[str], mutation: Mutation | None) -> int:
    """Fork a process that plants `mutation` and runs `tests`; return the process's id.

    The process leaves outcome.json and said.txt in `folder`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return child
    try:
        said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.setsid()
        outcomes = Outcomes()
        if mutation is not None:
            mutation.plant(Patch())
        options = [*OPTIONS, "--basetemp", str(folder / "tmp")]
        if mutation is None:
            pytest.main([*options, *tests], plugins=[outcomes])
        else:  # the first failure of each
            for test in tests:
                pytest.main([*options, "-x", test], plugins=[outcomes])
        (folder / "outcome.json").write_text(json.dumps(vars(outcomes)), encoding="utf-8")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)


def verdict(mutation: Mutation, folder: Path) -> str:
    """Return "" where every test of the mutation failed as it should, else what is wrong."""
    said = (folder / "said.txt").read_text("utf-8", "replace")
    try:
        found = json.loads((folder / "outcome.json").read_text("utf-8"))
    except FileNotFoundError:
        return f"could not be planted, or took too long: {said.strip()[-600:]}"
    if found["errors"]:
        return f"its tests could not be collected: {found['errors'][0]}"
    for test in mutation.tests:
        kinds = [kind for node, names in found["failed"].items() for kind in names
                 if node == test or node.startswith((f"{test}[", f"{test}::"))]  # fmt: skip
        if not kinds:
            return f"survived {test}" + ("" if found["ran"] else f": {said.strip()[-400:]}")
        if not mutation.crashes and all(kind in MISTAKES for kind in kinds):
            return f"ends in a {kinds[0]}, and so proves nothing: {said.strip()[-600:]}"
    return ""


def run(mutations: list[Mutation], jobs: int = 1) -> Iterator[tuple[Mutation, str, float]]:
    """Yield each mutation with its verdict and the seconds that it took, `jobs` at a time."""
    warm_up()
    waiting, running = list(mutations), dict[int, tuple[Mutation, Path, float]]()
    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutation = waiting.pop(0)
                folder = Path(tempfile.mkdtemp(dir=scratch))
                child = tests_in_a_fork(folder, mutation.tests, mutation)
                running[child] = (mutation, folder, time.monotonic())
            for child, (mutation, folder, begun) in list(running.items()):
                ended, _ = os.waitpid(child, os.WNOHANG)
                late = time.monotonic() - begun > LONGEST
                if not ended and not late:
                    continue
                if not ended:
                    os.killpg(child, 9)
                    os.waitpid(child, 0)
                del running[child]
                yield mutation, verdict(mutation, folder), time.monotonic() - begun
                shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.02)


def failing_without(mutations: list[Mutation]) -> list[str]:
    """Return the tests of `mutations` that fail with no mutation planted."""
    warm_up()
    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        tests = dict.fromkeys(test for mutation in mutations for test in mutation.tests)
        os.waitpid(tests_in_a_fork(Path(scratch), tests, None), 0)
        try:
            found = json.loads((Path(scratch) / "outcome.json").read_text("utf-8"))
        except FileNotFoundError:
            return [(Path(scratch) / "said.txt").read_text("utf-8")[-2000:]]
    return [*found["failed"], *found["errors"]]
