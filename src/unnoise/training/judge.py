"""Judging updates: at once, or one update late where the device is not waited for."""

from __future__ import annotations

from ..data import Dataset
from ..recipes.train_section import GuardConfig
from .guard import Guard
from .loss_scale import Kind
from .outcome import Outcome
from .player import Player


class Judge:
    """Passes each update to the guard, and takes those that are made into the averages.

    On a GPU an update is deferred: the device leaves a bad one out itself, and the host judges the
    update when the gradients of the next one are queued. Weights and judgements are the same.
    """

    def __init__(self, config: GuardConfig, data: Dataset, seed: int) -> None:
        self.guard, self.data, self.seed = Guard(config), data, seed
        self._pending: tuple[Player, Outcome] | None = None

    def judge(self, player: Player, outcome: Outcome) -> bool:
        """Return whether the update is made; its outcome then holds what was wrong with it."""
        outcome.receive()
        kind: Kind | None = self.guard.judge(player.name, outcome.loss, outcome.norm, player.scale)
        if player.optimizers.loss_scale is not None:
            kind = player.optimizers.loss_scale.judge(kind)
        fault = outcome.record(kind, self.data, self.seed)
        self.guard.take(fault)
        return fault is None or not fault.skipped

    def defer(self, player: Player, outcome: Outcome) -> None:
        """Judge an update that is made already later, in `judge_pending`."""
        self._pending = player, outcome

    def judge_pending(self) -> None:
        """Judge the deferred update, if there is one, and take it into the averages.

        An update that was made while the run was broken, which goes back or ends, is left out.
        """
        pending, self._pending = self._pending, None
        if pending is not None and not self.guard.broken and self.judge(*pending):
            pending[0].average()

    def forget(self) -> None:
        """Leave the deferred update out: the run goes on from another state."""
        self._pending = None
