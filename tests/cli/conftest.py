"""The command line in this process, and a model to use it on."""

import shutil

import pytest

from tests.training.tiny import model_of, tiny
from unnoise.cli import main


class Said:
    """What a command wrote, and its exit code."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run("sample", folder, "--n", 3): the command, in an empty folder of the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*words):
        capsys.readouterr()
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def refused(run, tmp_path):
    """Like run, for what must end in one message, code 2 and nothing written."""

    def call(*words):
        before = tree(tmp_path)
        said = run(*words)
        assert said.code == 2, said.err
        assert said.err.strip()
        assert "Traceback" not in said.err
        assert tree(tmp_path) == before
        return said.err

    return call


def tree(folder):
    """Every file below a folder and when it was written."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A class-conditional model that was never trained; not to be changed."""
    return model_of(tiny()).save(tmp_path_factory.mktemp("cli") / "m")


@pytest.fixture
def model(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "model")
