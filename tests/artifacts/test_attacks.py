"""A part of `tools/campaigns/malformed.py`: some attacks of every group."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.artifacts.attacks.judge import Bench
from tests.artifacts.attacks.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
FREE = {"training", "measured", "record", "features_record", "versions", "guard", "provenance"}
MORE = {"recipe.yaml": 60, "model.json": 60}


def chosen(bench, count):
    """An attack of every group, every pickle, and others drawn from all: the same at each run."""
    drawn, groups = random.Random(1), {}
    for attack in bench.attacks():
        groups.setdefault(attack.group, []).append(attack)
    first = [a for group in groups.values() for a in drawn.sample(group, 1)] + groups["a pickle"]
    rest = [a for group in groups.values() for a in group if a not in first]
    return [*first, *drawn.sample(rest, min(len(rest), count))]


@pytest.mark.parametrize("name", TARGETS)
def test_every_kind_of_attack_ends_in_one_clear_error_or_is_taken_at_its_word(name, tmp_path):
    bench = Bench(TARGETS[name], tmp_path, seed=2)
    for attack in chosen(bench, MORE.get(name, 15)):
        outcome = bench.judge(attack)
        assert outcome.right, (str(attack), outcome)
        assert outcome.seconds < 20, (str(attack), outcome)
        if attack.group not in (
            "another kind of value",
            "missing keys",
            "numbers beyond all bounds",
        ):
            taken = attack.group == "tags and types" and "alone" not in attack.name
            free = any(word in FREE for word in attack.name.replace(" ", ".").split("."))
            free |= "data.source" in attack.name  # a text of the data's description
            free |= "sample.solver" in attack.name  # a name that `check` looks up, before any work
            free |= name == "checkpoint state.json"  # its recipe is compared with the run's own
            assert outcome.how == "refused" or taken or free, str(attack)
            named = name.split()[-1].split("/")[-1].split(".")[0]
            assert outcome.how == "accepted" or named in outcome.text or "step-" in outcome.text


def test_flipped_bits_and_lost_ends_of_weights_are_all_refused(tmp_path):
    bench = Bench(TARGETS["model.safetensors"], tmp_path, seed=3)
    attacks = [a for a in bench.attacks() if a.group.startswith(("flipped", "cut off"))]
    assert len(attacks) == 50 + 200 + 100
    for attack in attacks[::7]:
        outcome = bench.judge(attack)
        assert outcome.how == "refused", (str(attack), outcome)
        if "body" in attack.group:
            assert "SHA-256 differs" in outcome.text


def test_the_campaign_bounds_time_and_memory_and_counts(tmp_path):
    """The tool itself, on some files; the whole is `make campaigns`."""
    run = subprocess.run(
        [sys.executable, "tools/campaigns/malformed.py", "--only", "recipe.yaml", "--every", "50"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "0 problems" in run.stdout


def test_the_judge_knows_a_fault_when_it_sees_one(tmp_path):
    """Each fault that the campaign looks for, made on purpose."""
    import os
    import time
    from dataclasses import replace

    from tests.artifacts.attacks.attack import Attack
    from tests.artifacts.attacks.files import marker_of
    from unnoise.errors import ArtifactError

    target = TARGETS["checkpoint manifest.json"]
    good = Bench(target, tmp_path)
    attack = Attack("none", "none", lambda path: None)
    marker = marker_of(good.scratch / "bad" / good.file.relative_to(good.good))

    def raising(error):
        def load(folder):
            raise error

        return load

    for load, how in {
        raising(ArtifactError("one clear message")): "refused",
        raising(ArtifactError("")): "unclear",
        raising(KeyError("x")): "another error",
        (lambda folder: {"tree": 1, "tensors": {}}): "taken for something else",
        (lambda folder: os.kill(os.getpid(), 9)): "killed",
        (lambda folder: bytearray(8 * 2**30)): "another error",
        (lambda folder: (os.mkdir(marker), target.load(folder))[1]): "code was run",
        target.load: "accepted",
    }.items():  # fmt: skip
        good.target = replace(target, load=load)
        assert [o.how for o in good.judge_apart([attack, attack])] == [how, how]

    def slow(folder):
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        found = bytearray(50 * 2**20)
        found[::4096] = b"x" * len(found[::4096])
        return target.load(folder)

    good.target = replace(target, load=slow)
    (outcome,) = good.judge_apart([attack])
    assert outcome.seconds > 0.29
    assert outcome.growth > 45


def test_what_was_measured_last_covers_every_file_and_every_attack():
    """docs/campaigns/malformed.json is of these attacks, and found no fault."""
    tree = json.loads((ROOT / "docs" / "campaigns" / "malformed.json").read_text())
    assert tree["problems"] == []
    assert tree["code run"] == 0
    assert set(tree["by_file"]) == set(TARGETS)
    assert tree["refused"] + tree["taken as what they say"] == tree["attacks"]
