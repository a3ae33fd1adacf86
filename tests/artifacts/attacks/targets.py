"""What reads files that others wrote: a good one of each, and how it is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.artifacts.edit import reseal
from tests.training.tiny import model_of, run_steps, tiny, training_of
from unnoise.artifacts import Model
from unnoise.artifacts.write import describe
from unnoise.errors import ArtifactError, DataError, RecipeError, UnnoiseError
from unnoise.evaluation import (
    FeatureClassifier,
    Part,
    ValuePCA,
    evaluate,
    load_card,
    load_classifier,
    save_classifier,
)
from unnoise.randomness import Streams
from unnoise.recipes import Recipe, SampleConfig, dump, load_recipe, resolved
from unnoise.sampling import TunedSolver
from unnoise.solvers import Tuned
from unnoise.training import Checkpoints

from . import files, tensors, trees, yamls
from .attack import Attack


@dataclass(frozen=True)
class Target:
    """A kind of file. make(folder) writes good ones and returns the one that is attacked;
    load(folder) reads it and returns what it means, for comparison; seal(path) makes the hashes
    right that name it."""

    name: str
    error: type[UnnoiseError]
    make: Callable[[Path], Path]
    load: Callable[[Path], dict[str, Any]]
    attacks: Callable[[Path, int], Iterator[Attack]]
    seal: Callable[[Path], None] = lambda path: None


GUIDED = SampleConfig(guidance=1.5).guidance


def _model() -> Model:
    recipe = tiny("network.kind=mlp", "network.width=8", "network.depth=1", "path.kind=cosine")
    model = model_of(recipe)
    one = Tuned.from_dict({"kappa": 1.0, "places": [1, 0], "predict": [[1]], "correct": [[]]})
    model.tuned[1] = TunedSolver(one, guidance=GUIDED, measured={"starts": 18})
    return model


def _make_model(name: str) -> Callable[[Path], Path]:
    return lambda folder: _model().save(folder) / name


def _load_model(folder: Path) -> dict[str, Any]:
    model = Model.load(folder, "fp32")
    return {"tree": describe(model), "tensors": model.denoiser.network.state_dict()}


def _load_tuned(folder: Path) -> dict[str, Any]:
    tuned = Model.load(folder, "fp32").tuned
    said = ("guidance", "measured")
    return {
        "tree": {
            key: value
            for steps, one in tuned.items()
            for key, value in [
                ("solver", one.solver.to_dict()),
                *((n, getattr(one, n)) for n in said),
            ]
        }
    }


def _seal_weights(path: Path) -> None:
    tree = json.loads((path.parent / "model.json").read_text())
    tree["weights_sha256"] = _sha256(path)
    reseal(tree)
    (path.parent / "model.json").write_text(json.dumps(tree))


def _seal_json(path: Path) -> None:
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if isinstance(tree, dict):
        reseal(tree)
        path.write_text(json.dumps(tree), "utf-8")


def _sha256(path: Path) -> str:
    small = path.is_file() and path.stat().st_size < 2**28
    return hashlib.sha256(path.read_bytes()).hexdigest() if small else "0" * 64


def _small_run() -> Recipe:
    return tiny("train.steps=3", "network.kind=mlp", "network.width=8", "network.depth=1")


def _make_checkpoint(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        recipe = _small_run()
        training = training_of(recipe)
        run_steps(training, 1)
        return Checkpoints(folder).save(training.state(), resolved(recipe)) / name

    return make


def _load_checkpoint(folder: Path) -> dict[str, Any]:
    state, recipe = Checkpoints(folder).load()
    training_of(_small_run()).load_state(deepcopy(state))
    (player,) = state["players"].values()
    kept = {
        f"{part}.{name}": value
        for part in ("weights", "ema")
        for name, value in player.pop(part).items()
    }
    for part in player["optimizers"]:
        for key, slots in part.pop("state").items():
            kept |= {f"{key}.{n}": v for n, v in slots.items() if isinstance(v, torch.Tensor)}
    player.pop("objective", None)
    return {"tree": {"recipe": recipe, **state}, "tensors": kept}


def _seal_checkpoint(path: Path) -> None:
    manifest = path.parent / "manifest.json"
    tree = json.loads(manifest.read_text())
    tree[path.name] = _sha256(path)
    manifest.write_text(json.dumps(tree))


def _make_classifier(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        save_classifier(FeatureClassifier((4,), 2, width=2, features=4), folder / "c", "0" * 64)
        return folder / name

    return make


def _load_classifier(folder: Path) -> dict[str, Any]:
    model, of = load_classifier(folder / "c")
    tree = {"config": model.config(), "train_hash": of, "record": model.record}
    return {"tree": tree, "tensors": model.state_dict()}


def _seal_classifier(path: Path) -> None:
    """Name the fingerprint of the tensors that the file holds now, where it can be read."""
    card = path.with_suffix(".json")
    try:
        tree = json.loads(card.read_text())
        if len(json.dumps(tree["config"])) > 200:  # the good one is shorter
            return
        model = FeatureClassifier(**{**tree["config"], "classes": 2, "width": 2, "features": 4})
        model.load_state_dict(load_file(path.with_suffix(".safetensors")))
        tree["fingerprint"] = model.fingerprint
    except Exception:
        return
    card.write_text(json.dumps(tree))


def _make_card(folder: Path) -> Path:
    noise = [Streams(0, range(k, k + 40)).normal(4) for k in (0, 100, 200)]
    given, known, real = map(Part, noise)
    return evaluate(given, known, real, ValuePCA(known.values), replicates=20).save(folder)[0]


def _make_recipe(folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(dump(tiny()), "utf-8")
    return path


def _tensor_attacks(path: Path, seed: int) -> Iterator[Attack]:
    content = path.read_bytes()
    yield from files.attacks(len(content), seed, 50)
    yield from tensors.structural()
    yield from tensors.flips(content, seed, 200)


def _json_attacks(path: Path, seed: int, depth: int | None = None) -> Iterator[Attack]:
    tree = json.loads(path.read_bytes())
    yield from files.attacks(len(path.read_bytes()), seed, 10)
    yield from trees.textual(tree, seed)
    yield from trees.changed(tree, depth)


def _tuned_attacks(path: Path, seed: int) -> Iterator[Attack]:
    """Without one: a model need not be tuned."""
    return (attack for attack in _json_attacks(path, seed) if attack.name != "missing")


def _yaml_attacks(path: Path, seed: int) -> Iterator[Attack]:
    yield from files.attacks(len(path.read_bytes()), seed, 0)
    yield from yamls.textual()
    yield from yamls.changed(resolved(load_recipe(path)))


TARGETS = {
    target.name: target
    for target in (
        Target("model.safetensors", ArtifactError, _make_model("model.safetensors"), _load_model,
               _tensor_attacks, _seal_weights),
        Target("model.json", ArtifactError, _make_model("model.json"), _load_model, _json_attacks,
               _seal_json),
        Target("tuned/steps-1.json", ArtifactError, _make_model("tuned/steps-1.json"), _load_tuned,
               _tuned_attacks),
        Target("checkpoint weights.safetensors", ArtifactError,
               _make_checkpoint("weights.safetensors"), _load_checkpoint, _tensor_attacks,
               _seal_checkpoint),
        Target("checkpoint state.json", ArtifactError, _make_checkpoint("state.json"),
               _load_checkpoint, partial(_json_attacks, depth=1), _seal_checkpoint),
        Target("checkpoint manifest.json", ArtifactError, _make_checkpoint("manifest.json"),
               _load_checkpoint, _json_attacks),
        Target("classifier.safetensors", ArtifactError, _make_classifier("c.safetensors"),
               _load_classifier, _tensor_attacks, _seal_classifier),
        Target("classifier.json", ArtifactError, _make_classifier("c.json"), _load_classifier,
               _json_attacks, _seal_classifier),
        Target("recipe.yaml", RecipeError, _make_recipe,
               lambda folder: {"tree": resolved(load_recipe(folder / "recipe.yaml"))},
               _yaml_attacks),
        Target("card.json", DataError, _make_card,
               lambda folder: {"tree": json.loads(load_card(folder).to_json())}, _json_attacks),
    )
}  # fmt: skip


def same(found: dict[str, Any], good: dict[str, Any], attack: Attack) -> bool:
    """Whether what was loaded is what the good file means, or what the attack changed it to."""
    if found.get("tensors", {}).keys() != good.get("tensors", {}).keys():
        return False
    for name, value in found.get("tensors", {}).items():
        if not torch.equal(value, good["tensors"][name]):
            return False
    if attack.leaf is None:
        return found.get("tree") == good.get("tree")
    if attack.leaf[0] in (
        "sha256",
        "recipe_sha256",
        "fingerprint",
    ):  # which resealing has made right again
        return found["tree"] == good["tree"]
    return trees.taken(found, good, attack)
