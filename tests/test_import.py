"""`import unnoise` brings in little beside torch."""

import json
import subprocess
import sys

import pytest

HEAVY = [
    "PIL",
    "accelerate",
    "datasets",
    "matplotlib",
    "mlxtend",
    "pandas",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "tensorboard",
    "tqdm",
    "transformers",
    "typer",
    "yaml",
]
CORE = ["paths", "fields", "guidance", "solvers", "objectives", "randomness", "errors"]


def loaded_by(code):
    """Top-level modules in sys.modules after `code`, in a process of its own."""
    code += "\nimport sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(out.stdout))


@pytest.fixture(scope="module")
def with_torch():
    return loaded_by("import torch")


def test_importing_unnoise_imports_nothing_heavy(with_torch):
    assert loaded_by("import torch, unnoise") - with_torch <= {"unnoise"} | sys.stdlib_module_names
    assert not (loaded_by("import unnoise") - with_torch) & set(HEAVY)


def test_the_core_imports_nothing_heavy(with_torch):
    code = "import " + ", ".join(f"unnoise.{room}" for room in CORE)
    assert not (loaded_by(code) - with_torch) & set(HEAVY)
