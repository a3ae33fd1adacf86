"""The runs that make the tables.

Every length is a run of its own, whose schedule ends there: nothing is measured in the middle of a
longer run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from .contestants import DOCUMENTED, TRIES, TRY, Contestant, tuned
from .runs import Kept, Run, run_of_ours, run_of_peer
from .task import Task

MOST = 704_000  # parameters of the largest peers on digits, to 0.2 %; ours is brought below this
SEEDS = (0, 1, 2)
MAIN, HALF, LONG, ON_MNIST = 120.0, 60.0, 240.0, 300.0
OURS, SHIPPED = "unnoise, same size", "unnoise, as shipped"
WIDER = {  # the peers on mnist5k: about a million parameters
    # its example but for the attention, at the lowest level: at 28 × 28, as there, one update and
    # one batch of samples would take ten times as long
    "torchcfm documented": {"mult": [1, 2, 2]},
    "torchcfm tuned": {"mult": [1, 2, 2]},
    "azula tuned": {"widths": [32, 48, 80]},
    "diffusers tuned": {"widths": [32, 64, 64]},
}


def tries(task: Task) -> dict[str, list[Run]]:
    """Return the short runs by which each peer is tuned."""
    return {
        peer: [
            run_of_peer(f"{peer} try {k + 1}", who, task.name, TRY, 0)
            for k, who in enumerate(tried)
        ]
        for peer, tried in TRIES.items()
    }


@dataclass
class Peers:
    """The tuned peers are the best of their tries; the best one of them at 120 s gets all seeds."""

    tuned: dict[str, Contestant] = field(default_factory=dict)
    best: str | None = None

    @staticmethod
    def known(digits: Task, kept: Kept) -> Peers:
        """Return the tuned peers, from the runs stored so far."""
        found = Peers()
        for peer, runs in tries(digits).items():
            scores = {k: got["fd"] for k, run in enumerate(runs) if (got := kept(run))}
            if scores:
                best = min(scores, key=lambda k: scores[k])
                found.tuned[f"{peer} tuned"] = tuned(peer, best)
        reached = {
            run.name: got["fd"]
            for name, who in found.tuned.items()
            if (got := kept(run := run_of_peer(name, who, digits.name, MAIN, 0)))
        }
        if reached:
            found.best = min(reached, key=lambda name: reached[name])
        return found


def digits(task: Task, peers: Peers) -> Iterator[Run]:
    """Yield the runs of 120 CPU seconds of every contestant, one seed; ours for 60 too."""
    for seconds in (MAIN, HALF):
        yield run_of_ours(OURS, task, seconds, 0, MOST)
    shipped = run_of_ours(SHIPPED, task, MAIN, 0, None)
    if shipped.settings != run_of_ours(OURS, task, MAIN, 0, MOST).settings:
        yield shipped
    for name, who in {**peers.tuned, **DOCUMENTED}.items():
        yield run_of_peer(name, who, task.name, MAIN, 0)


def seeds(task: Task, peers: Peers) -> Iterator[Run]:
    """Yield the other seeds of ours and of the best tuned peer."""
    for seed in SEEDS[1:]:
        for seconds in (MAIN, HALF):
            yield run_of_ours(OURS, task, seconds, seed, MOST)
        if peers.best:
            yield run_of_peer(peers.best, peers.tuned[peers.best], task.name, MAIN, seed)


def curves(task: Task, peers: Peers) -> Iterator[Run]:
    """Yield shorter and longer runs of ours and of the best tuned peer."""
    yield run_of_ours(OURS, task, LONG, 0, MOST)
    if peers.best:
        for seconds in (HALF, LONG):
            yield run_of_peer(peers.best, peers.tuned[peers.best], task.name, seconds, 0)


def mnist5k(task: Task, peers: Peers) -> Iterator[Run]:
    """Yield runs of 300 CPU seconds, one seed.

    They are ours as shipped, the best tuned peer, and a documented one.
    """
    yield run_of_ours(SHIPPED, task, ON_MNIST, 0, None)
    everyone: dict[str, Any] = {**peers.tuned, **DOCUMENTED}
    for name in filter(None, (peers.best, "torchcfm documented")):
        who = everyone[name].with_options(**WIDER[name])
        who = replace(who, samplers=who.samplers[:1])
        yield run_of_peer(name, who, task.name, ON_MNIST, 0)


def quick(task: Task) -> Iterator[Run]:
    """Yield runs of a second each, only to test that everything runs."""
    yield run_of_ours(OURS, task, 1.0, 0, MOST)
    for name, who in DOCUMENTED.items():
        if "cifar10" not in name:
            few = replace(who, samples=len(task.labels))
            yield run_of_peer(name, few, task.name, 1.0, 0)
