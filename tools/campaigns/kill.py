"""A campaign that kills training with SIGKILL, at random moments and at file operations.

Every killed run is resumed (some are killed again on the way) and must end with the weights of an
undisturbed run, bit for bit, having lost no more than the updates since its last checkpoint. Prints
a table and writes docs/campaigns/kill.json; exits with 1 if a promise broke.

    python tools/campaigns/kill.py [--kills 200] [--seed 0] [--out docs/campaigns/kill.json]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from forked import Child, Killer, fork

from unnoise.recipes import Recipe, load_recipe
from unnoise.training import Checkpoints, read_log, train
from unnoise.training import run as room

TREE = {
    "name": "killed",
    "data": {"source": "digits"},
    "path": {"kind": "flow"},
    "network": {"kind": "mlp", "width": 16, "depth": 1},
    "objective": {"drop": 0.1},
    "train": {
        "steps": 60, "batch": 32, "accumulate": 2, "reports": 1, "precision": "fp32",
        "checkpoint": 0.02, "keep": 2, "keep_every": 20,
    },
    "sample": {"steps": 2},
    "evaluate": {"samples": 20},
}  # fmt: skip
KINDS = ("random moment", "file operation", "torn write", "random moment, with a data worker")


def watched(recipe: Recipe, out: Path, killer: Killer | None) -> Callable[..., None]:
    """Return a run that reports each update and each save; `killer` is armed in the saves."""

    def work(say: Callable[[str], None]) -> None:
        updates, save = room.Training.updates, room.Checkpoints.save

        def telling(self: Any) -> Any:
            say(f"from {self.step}")
            for update in updates(self):
                say(f"update {update.step}")
                yield update

        def saving(self: Any, state: dict[str, Any], *rest: Any) -> Path:
            say(f"save {state['step']}")
            if killer is not None:
                killer.armed = True
            made = save(self, state, *rest)
            if killer is not None:
                killer.armed = False
            say(f"saved {state['step']}")
            return made

        room.Training.updates = telling  # type: ignore[method-assign]
        room.Checkpoints.save = saving  # type: ignore[method-assign]
        train(recipe, out, resume=True, quiet=True, tensorboard=False)
        if killer is not None:
            say(f"operations {killer.count}")

    return work


def last(lines: list[str], word: str) -> int:
    """Return the number after the last occurrence of a word, −1 without one."""
    numbers = [int(line.split()[1]) for line in lines if line.startswith(f"{word} ")]
    return numbers[-1] if numbers else -1


class Campaign:
    """Runs of one recipe, killed and resumed; `problems` lists broken promises."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.recipes = {
            workers: load_recipe(TREE, [f"train.workers={workers}"]) for workers in (0, 1)
        }
        self.problems: list[str] = []
        self.counts = {kind: dict.fromkeys(("kills", "inside a save"), 0) for kind in KINDS}
        self.twice, self.lost, self.walked, self.runs = 0, [], 0, 0

        # import and cache everything before the forks
        train(self.recipes[0], folder / "warm", quiet=True, tensorboard=False)
        began = time.monotonic()
        code, _ = self.start("straight", 0, None).end()
        assert code == 0, (folder / "errors.txt").read_text()
        self.length = time.monotonic() - began
        self.wanted = (folder / "straight" / "model.safetensors").read_bytes()
        self.operations = {}
        for kind, torn in (("file operation", None), ("torn write", random.Random(0))):
            work = lambda say, t=torn: watched(  # noqa: E731
                self.recipes[0], folder / f"counted {t is None}", Killer(None, t)
            )(say)
            code, lines = fork(work, folder / "errors.txt").end()
            assert code == 0, (folder / "errors.txt").read_text()
            self.operations[kind] = last(lines, "operations")

    def start(
        self, name: str, workers: int, kill: tuple[int, random.Random | None] | None
    ) -> Child:
        def work(say: Callable[[str], None]) -> None:
            killer = None if kill is None else Killer(*kill)
            watched(self.recipes[workers], self.folder / name, killer)(say)

        return fork(work, self.folder / "errors.txt")

    def killed(self, name: str, kind: str) -> list[str] | None:
        """Kill a run once, and return its output; None if it had ended before."""
        if kind in self.operations:
            torn = random.Random(self.random.random()) if kind == "torn write" else None
            child = self.start(name, 0, (self.random.randrange(self.operations[kind]), torn))
        else:
            child = self.start(name, int("worker" in kind), None)
            time.sleep(self.random.uniform(0, self.length))
            os.kill(child.pid, signal.SIGKILL)
        code, lines = child.end()
        if code == 0:
            return None
        if code != -signal.SIGKILL:
            self.problems.append(f"{name} ended with {code}")
        self.counts[kind]["kills"] += 1
        self.counts[kind]["inside a save"] += last(lines, "save") > last(lines, "saved")
        return lines

    def check_step(self, name: str, lines: list[str], then: list[str]) -> None:
        """Check that the next run began at the last saved state, or a later one."""
        began, saved, done = last(then, "from"), last(lines, "saved"), last(lines, "update")
        if began < 0:  # killed again before it began
            return
        before = max(saved, last(lines, "from"), 0)
        if began < before:
            self.problems.append(f"{name} went on from {began}; {before} was saved")
        self.lost.append(max(0, done - began))

    def one(self, kind: str, again: float = 0.25) -> bool:
        """Kill a run once or more, then let it end; return False if it ended before the kill."""
        name = f"run-{self.runs}"
        self.runs += 1
        out = self.folder / name
        lines = self.killed(name, kind)
        if lines is None:
            shutil.rmtree(out)
            return False
        while self.random.random() < again:
            then = self.killed(name, kind)
            if then is None:
                break
            self.twice += 1
            self.check_step(name, lines, then)
            lines = then
        kept = Checkpoints(out)
        if kept.names():
            kept.load()
            self.walked += any("passed over" in note for note in kept.notes)
        code, then = self.start(name, 0, None).end()
        self.check_step(name, lines, then)
        if code != 0:
            self.problems.append(f"{name} could not be resumed: {code}")
        elif (out / "model.safetensors").read_bytes() != self.wanted:
            self.problems.append(f"{name} ended in other weights")
        else:
            self.check_left(name)
            shutil.rmtree(out)
        return True

    def check_left(self, name: str) -> None:
        """Check that the log can be read and that no half-written file is left."""
        out = self.folder / name
        steps = [row["step"] for row in read_log(out)]
        if steps != sorted(steps) or read_log(out)[-1]["kind"] != "end":
            self.problems.append(f"{name}: the log is out of order")
        left = [p.name for p in out.rglob(".*") if p.name != ".lock"]
        names = {int(name[5:]) for name in Checkpoints(out).names()}
        if left or not names >= {20, 40, 60} or len(names) > 4:
            self.problems.append(f"{name} left {left} and {names}")

    def result(self, seconds: float) -> dict[str, Any]:
        """Return the content of the JSON file."""
        kills = sum(c["kills"] for c in self.counts.values())
        return {
            "title": "SIGKILL while training",
            "about": "Runs killed at random moments and at file operations of their saves (some "
            "more than once), each resumed to its end, with the weights of an undisturbed run.",
            "kills": kills,
            "inside_a_save": sum(c["inside a save"] for c in self.counts.values()),
            "by_kind": self.counts,
            "killed_again_on_the_way": self.twice,
            "file_operations_in_the_saves_of_a_run": self.operations,
            "runs_resumed": kills - self.twice,
            "most_updates_lost": max(self.lost, default=0),
            "mean_updates_lost": round(sum(self.lost) / max(1, len(self.lost)), 2),
            "problems": self.problems,
            "updates_a_run": TREE["train"]["steps"],  # type: ignore[index]
            "seconds": round(seconds),
            "torch": torch.__version__,
        }


def main() -> int:
    """Run the campaign; return 1 if a promise broke."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    root = Path(__file__).parents[2]
    options.add_argument("--out", type=Path, default=root / "docs" / "campaigns" / "kill.json")
    args = options.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # or the disk's syncs take all day
    with tempfile.TemporaryDirectory(prefix="unnoise-kill-", dir=memory) as folder:
        campaign = Campaign(Path(folder), args.seed)
        turns = [KINDS[0], KINDS[1], KINDS[0], KINDS[1], KINDS[2], KINDS[0], KINDS[1], KINDS[3]]
        turn = 0
        while sum(c["kills"] for c in campaign.counts.values()) < args.kills:
            turn += campaign.one(turns[turn % len(turns)])
        errors = Path(folder, "errors.txt")
        found = campaign.result(time.monotonic() - began)
        if campaign.problems:
            print(errors.read_text()[-5000:], file=sys.stderr)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{'':36}{'kills':>8}{'inside a save':>16}")
    for kind, counts in found["by_kind"].items():
        print(f"{kind:36}{counts['kills']:8}{counts['inside a save']:16}")
    print(f"{'all':36}{found['kills']:8}{found['inside_a_save']:16}")
    print(f"most updates lost: {found['most_updates_lost']}; problems: {len(found['problems'])}")
    for problem in found["problems"]:
        print(f"  {problem}")
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
