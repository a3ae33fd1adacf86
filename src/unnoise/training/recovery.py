"""Going back: what a run does about the updates that its guard found at fault."""

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

TOLD = 5  # faults said to the reader one by one; the log has them all


class Recovery:
    """Takes a run whose guard is broken back to its last good state.

    That is the newest sound checkpoint that was steady when it was written and to which the run has
    not gone back before; until there is one, the state at the start, of which a copy is held. Which
    checkpoints there are depends on the clock unless train.keep_every is given: two runs that both
    went back may then differ, while a run resumed after it went back agrees bit for bit.
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
        """A checkpoint has been written: the copy of the start is let go."""
        self.start = None

    def fit(self) -> bool:
        """Whether the state as it is now is worth saving as one to go back to."""
        self.training.judge_pending()
        return self.training.guard.steady and not unsound(self.training)

    def keep(self, update: Update) -> None:
        """Store the averages for after the run, where their moment has come.

        All processes judge the last update then, though one writes: the guards must agree.
        """
        training, kept = self.training, self.training.config.averages
        if kept is None or not due(update.progress, training.progress, kept.snapshots):
            return
        training.judge_pending()
        if self.store is not None and not unsound(training):
            leader = training.leader
            self.store.save(leader.averages, leader.network, training.step)

    def tell(self, updates: Iterable[Update]) -> None:
        """Log the updates that went wrong, and say the first few."""
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
        """Load the last good state, with lower rates; raises NonFinite, with a diagnosis, where
        the run has gone back as often as it may, or has nothing to go back to."""
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
        """Log and raise the diagnosis, where the run is broken; see `Guard.check`."""
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
        """The row of the whole data set that holds row `row` of the training part; None where that
        would mean reading all of the files."""
        if self.data is None or self.data.streamed or self.training.data.streamed:
            return None
        mine = self.training.data.values[row].flatten()
        same = (self.data.values.flatten(1) == mine).all(1).nonzero()
        return int(same[0]) if len(same) else None


def unsound(training: Training) -> str | None:
    """Return the name of the first weight, of a player or its average, that is not finite."""
    return next(filter(None, (player.unsound() for player in training.players.values())), None)
