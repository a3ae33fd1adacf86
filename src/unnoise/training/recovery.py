"""Rollback of a run whose guard found faulty updates."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from ..data import Dataset
from ..errors import ArtifactError, NonFinite
from .averages import Averages, due
from .checkpoints import Checkpoints
from .log import Log
from .loop import Training, Update

TOLD = 5  # faults printed one by one; the log has them all


class Recovery:
    """The rollback of a run to its last good state.

    That is the newest sound checkpoint that was written in a steady state and to which the run has
    not gone back before; until there is one, a copy of the state at the start. The moments of the
    checkpoints depend on the clock unless train.keep_every is given. So two runs that both went
    back may differ, but a run resumed after a rollback agrees bit for bit.
    """

    def __init__(
        self,
        training: Training,
        checkpoints: Checkpoints,
        log: Log,
        data: Dataset | None = None,
        store: Averages | None = None,
    ) -> None:
        self.training, self.checkpoints, self.log, self.data = training, checkpoints, log, data
        self.store = store
        if store is not None:
            store.forget(training.step)
        self.start: dict[str, Any] | None = None
        if not training.processes.on_rank_zero(checkpoints.names):
            self.start = deepcopy(training.state())
        self._told = 0

    def saved(self) -> None:
        """Drop the copy of the state at the start, because a checkpoint has been written."""
        self.start = None

    def fit(self) -> bool:
        """Return whether the present state is steady and finite, so fit to go back to."""
        self.training.judge_pending()
        return self.training.guard.steady and not unsound(self.training)

    def keep(self, update: Update) -> None:
        """Store the averages for `unnoise average`, if a moment to store has passed.

        All processes then judge the last update, though only one writes: their guards must agree.
        """
        training, kept = self.training, self.training.config.averages
        if kept is None or not due(update.progress, training.progress, kept.snapshots):
            return
        training.judge_pending()
        if self.store is not None and not unsound(training):
            leader = training.leader
            self.store.save(leader.averages, leader.network, training.step)

    def tell(self, updates: Iterable[Update]) -> None:
        """Log the faulty updates, and print the first few."""
        for update in updates:
            fault = update.fault
            if fault is None:
                continue
            where = {"row": fault.row, "t": fault.t, "tensor": fault.tensor}
            where |= {"every": True} if fault.every else {}
            if fault.row is not None:
                where["data_row"] = self._data_row(fault.row)
            kind = "skipped" if fault.skipped else "exploded"
            said = {k: v for k, v in where.items() if v is not None}
            self.log.write(kind, update.step, fault=fault.kind, **said)
            self._told += 1
            if self._told <= TOLD:
                row = where.get("data_row")
                place = "" if row is None else f"; that is row {row} of the data set"
                done = "; the update is skipped" if fault.skipped else ""
                more = " (further ones are in log.jsonl)" if self._told == TOLD else ""
                self.log.say(f"note: {fault}{place}{done}{more}")

    def go_back(self) -> None:
        """Load the last good state and lower the rates.

        Raises NonFinite with a diagnosis if no rollback is left, or there is no good state.
        """
        training, guard = self.training, self.training.guard
        name = training.processes.on_rank_zero(self._newest)
        state = self.start if name is None else self.checkpoints.read(name)[0]
        if guard.rollbacks >= guard.config.rollbacks or state is None:
            self.end()
        assert state is not None
        broke = training.step
        training.roll_back(state)
        if self.store is not None:
            self.store.forget(training.step)
        if name is not None:
            training.processes.on_rank_zero(lambda: self.checkpoints.forget(training.step))
        self.log.write("rollback", broke, to=training.step, rate_factor=guard.factor)
        self.log.say(
            f"note: after update {broke} the run goes back to its state after update "
            f"{training.step}, with rates × {guard.factor:g} ({guard.rollbacks} of at most "
            f"{guard.config.rollbacks} times)"
        )

    def end(self, ending: int | None = None) -> None:
        """Log and raise the diagnosis if the run is broken; see `Guard.check`."""
        try:
            self.training.guard.check(self.training.precision.name, ending)
        except NonFinite as error:
            self.log.write("stopped", self.training.step, why=str(error))
            raise

    def _newest(self) -> str | None:
        good = []
        for name in reversed(self.checkpoints.names()):
            try:
                state, _ = self.checkpoints.read(name)
            except ArtifactError:
                continue
            if not state["guard"].get("trouble", 0):
                good.append(name)
            if good and int(good[-1][5:]) != self.training.guard.back:
                return good[-1]
        return good[0] if good else None

    def _data_row(self, row: int) -> int | None:
        """Return the row in the whole data set of row `row` of the training part.

        None for streamed data, which would have to be read as a whole, and without a match.
        """
        if self.data is None or self.data.streamed or self.training.data.streamed:
            return None
        mine = self.training.data.values[row].flatten()
        same = (self.data.values.flatten(1) == mine).all(1).nonzero()
        return int(same[0]) if len(same) else None


def unsound(training: Training) -> str | None:
    """Return the name of the first weight, of a player or its average, that is not finite."""
    return next(filter(None, (player.unsound() for player in training.players.values())), None)
