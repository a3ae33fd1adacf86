"""What an attack led to: refused in one clear error, or loaded as what it says."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .attack import Attack
from .files import marker_of
from .targets import Target, same

ROOM = 1536 * 2**20  # bytes of address space that loading a small file may take more
PATIENCE = 60  # seconds until a process is taken for hung
LONGEST = 7000


@dataclass
class Outcome:
    """how: refused, accepted, or one of the faults: another error, unclear, taken for something
    else, code was run, hung, killed. seconds: of the processor. growth: MB of memory more than
    before, where measured."""

    how: str
    text: str = ""
    seconds: float = 0.0
    growth: float = 0.0

    @property
    def right(self) -> bool:
        return self.how in ("refused", "accepted")


class Bench:
    """A good file of a kind, and copies of it to attack."""

    def __init__(self, target: Target, scratch: Path, seed: int = 0) -> None:
        self.target, self.scratch, self.seed = target, scratch, seed
        self.good = scratch / "good"
        self.good.mkdir(parents=True)
        self.file = target.make(self.good)
        self.means = target.load(self.good)

    def attacks(self) -> Iterator[Attack]:
        """All attacks on it; the same for the same seed."""
        return self.target.attacks(self.file, self.seed)

    def damaged(self, attack: Attack) -> Path:
        """A copy of the good folder in which the attack was made."""
        folder = self.scratch / "bad"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.good, folder)
        path = folder / self.file.relative_to(self.good)
        attack.damage(path)
        if attack.resealed:
            self.target.seal(path)
        return folder

    def judge(self, attack: Attack) -> Outcome:
        """Attack and load in this process."""
        folder = self.damaged(attack)
        began = time.process_time()
        outcome = self._load(folder, attack)
        outcome.seconds = time.process_time() - began
        if marker_of(folder / self.file.relative_to(self.good)).exists():
            outcome.how = "code was run"
        return outcome

    def _load(self, folder: Path, attack: Attack) -> Outcome:
        try:
            found = self.target.load(folder)
        except self.target.error as error:
            text = str(error)
            clear = 10 < len(text) < LONGEST and type(error) is self.target.error
            return Outcome("refused" if clear else "unclear", text)
        except BaseException as error:
            return Outcome("another error", f"{type(error).__name__}: {error}"[:500])
        right = same(found, self.means, attack)
        return Outcome("accepted" if right else "taken for something else")

    def judge_apart(self, attacks: Sequence[Attack], together: int = 40) -> list[Outcome]:
        """Attack and load in processes of their own, `together` in one, with bounded memory and
        time; what ends a process is judged, and the next goes on in a new one."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(attacks):
            outcomes += self._child(attacks[len(outcomes) :][:together])
        return outcomes

    def _child(self, attacks: Sequence[Attack]) -> list[Outcome]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                _bound()
                for attack in attacks:
                    os.write(writing, json.dumps(vars(self._measured(attack))).encode() + b"\n")
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            outcomes = [Outcome(**json.loads(line)) for line in said]
        status = os.waitpid(child, 0)[1]
        if len(outcomes) < len(attacks):
            ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            how = "hung" if ended == signal.SIGALRM else "killed"
            outcomes.append(Outcome(how, f"status {status}"))
        return outcomes

    def _measured(self, attack: Attack) -> Outcome:
        folder = self.damaged(attack)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        signal.alarm(PATIENCE)
        before, began = _memory("VmRSS"), time.process_time()
        outcome = self._load(folder, attack)
        outcome.seconds = time.process_time() - began
        signal.alarm(0)
        outcome.growth = max(0.0, _memory("VmHWM") - before)
        outcome.text = outcome.text[:LONGEST]
        if marker_of(folder / self.file.relative_to(self.good)).exists():
            outcome.how = "code was run"
        return outcome


def _bound() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _memory(what: str) -> float:
    """MB of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def summary(outcomes: list[tuple[Attack, Outcome]]) -> dict[str, dict[str, Any]]:
    """Counts by group of attacks, the longest time and the most memory."""
    groups: dict[str, dict[str, Any]] = {}
    for attack, outcome in outcomes:
        group = groups.setdefault(
            attack.group, {"attacks": 0, "refused": 0, "accepted": 0, "seconds": 0.0, "MB": 0.0}
        )
        group["attacks"] += 1
        if outcome.right:
            group[outcome.how] += 1
        group["seconds"] = round(max(group["seconds"], outcome.seconds), 2)
        group["MB"] = round(max(group["MB"], outcome.growth), 1)
    return groups
