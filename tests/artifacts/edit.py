"""Changing artifacts as somebody would who knows how they are made."""

import json

from safetensors.torch import load_file

from unnoise.artifacts.formats import digest, sealed
from unnoise.safe_files.files import write_tensors

JSON, WEIGHTS = "model.json", "model.safetensors"


def edit(folder, change, seal=True):
    """Change the JSON of an artifact in place, and its own hashes with it."""
    tree = json.loads((folder / JSON).read_text())
    change(tree)
    reseal(tree) if seal else None
    (folder / JSON).write_text(json.dumps(tree))


def reseal(tree):
    """Make the hashes of a tree right again, where it has any."""
    if "recipe" in tree and "recipe_sha256" in tree:
        tree["recipe_sha256"] = digest(tree["recipe"])
    if "sha256" in tree:
        tree.update(sealed(tree))


def reweigh(folder, change):
    """Change the weights of an artifact and its hash with them."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    sha256 = write_tensors(folder / WEIGHTS, tensors)
    edit(folder, lambda tree: tree.update(weights_sha256=sha256))
