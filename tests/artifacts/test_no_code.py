"""Nothing of an artifact is run, imported or unpickled: watched at run time, and read in the
sources."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "unnoise"
WATCHED = textwrap.dedent(
    """
    import os, sys
    import torch
    torch.set_num_threads(1)
    from unnoise.artifacts import Model
    folder, good = sys.argv[1:3]
    Model.load(good).sample(2)  # whatever is imported when first used is imported now
    seen, on = [], False
    FORBIDDEN = ("exec", "compile", "import", "pickle.find_class", "subprocess.Popen", "os.system",
                 "os.exec", "os.posix_spawn", "os.fork", "ctypes.dlopen", "marshal.loads",
                 "socket.connect", "urllib.Request", "code.__new__", "shutil.rmtree", "os.remove")
    def watch(event, arguments):
        if on and event in FORBIDDEN:
            seen.append((event, repr(arguments)[:200]))
        if on and event == "open":
            flags = arguments[2]
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
                seen.append((event, repr(arguments)[:200]))
    sys.addaudithook(watch)
    on = True
    try:
        model = Model.load(folder)
        model.sample(2)
    finally:
        on = False
        print(seen)
    """
)


def watched(folder, good):
    """What was seen of forbidden events while a folder was loaded and sampled."""
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, str(folder), str(good)],
        capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(folder)},
    )  # fmt: skip
    return run.stdout.strip(), run.stderr


def test_loading_and_sampling_run_and_write_nothing(saved, folder):
    for name in ("unnoise", "torch", "model", "sitecustomize", "conftest", "setup"):
        (folder / f"{name}.py").write_text("raise SystemExit('code of the artifact was run')\n")
    (folder / "tuned").mkdir()
    seen, errors = watched(folder, saved)
    assert seen == "[]", errors


def test_the_watch_sees_what_it_looks_for(saved, folder):
    """Under the watch a loader that unpickles would be seen."""
    import os

    class Payload:
        def __reduce__(self):
            return os.system, ("true",)

    import pickle

    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload()))
    spy = WATCHED.replace(
        "model = Model.load(folder)",
        "import pickle; pickle.load(open(folder + '/model.safetensors', 'rb')); raise SystemExit",
    )
    run = subprocess.run(
        [sys.executable, "-c", spy, str(folder), str(saved)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "pickle.find_class" in run.stdout
    assert "os.system" in run.stdout


CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load", "torch.hub.load",
    "pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "os.system", "os.popen",
    "yaml.unsafe_load", "yaml.full_load", "joblib.load", "dill.load", "cloudpickle.load",
    "runpy.run_path", "runpy.run_module", "importlib.import_module", "import_module",
    "pd.read_pickle", "np.fromfile",
}  # fmt: skip
# names that are written in the sources, and no others
IMPORTS_BY_NAME = {"__init__.py"}

PINNED = "evaluation/efficientnet_weights.py"  # reads one file, whose hash is in the sources


def name_of(call):
    """`a.b.c` of a call; "" for what is not so plain."""
    parts, at = [], call.func
    while isinstance(at, ast.Attribute):
        parts.append(at.attr)
        at = at.value
    return ".".join(reversed([*parts, at.id])) if isinstance(at, ast.Name) else ""


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_no_file_of_the_sources_runs_what_it_reads(path):
    where = str(path.relative_to(SOURCE))
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            for name in names:
                assert name.split(".")[0] not in ("pickle", "marshal", "dill", "shelve"), where
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node)
        allowed = name == "import_module" and where in IMPORTS_BY_NAME
        if name == "torch.load" and where == PINNED:
            assert "weights_only" in [keyword.arg for keyword in node.keywords]
            allowed = True
        assert name not in CALLS or allowed, f"{where} calls {name}"
        for keyword in node.keywords:
            if keyword.arg in ("allow_pickle", "trust_remote_code", "weights_only", "shell"):
                value = getattr(keyword.value, "value", None)
                assert value is (keyword.arg == "weights_only"), f"{where}: {keyword.arg}"
        if name == "yaml.load":
            loader = node.args[1] if len(node.args) > 1 else None
            assert isinstance(loader, ast.Name), where
            assert loader.id == "_Loader", where  # recipes/load.py: a SafeLoader
        if name in ("np.load", "numpy.load"):
            assert any(keyword.arg == "allow_pickle" for keyword in node.keywords), where


def test_the_loader_of_recipes_is_a_safe_one():
    import yaml

    from unnoise.recipes.load import _Loader

    assert issubclass(_Loader, yaml.SafeLoader)
    unsafe = set(yaml.UnsafeLoader.yaml_multi_constructors) - {None}
    assert not unsafe & set(_Loader.yaml_multi_constructors)
