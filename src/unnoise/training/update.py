"""One update, or one round of updates of several players, as the loop yields it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from .guard import Fault
from .outcome import Outcome


@dataclass(frozen=True)
class Update:
    """One round: its number, the samples seen so far, the outcome of each player that was due.

    leader: the player whose numbers `loss` and the other properties are. rate: the learning rate's
    share. progress: the share of the run that is done. judge_pending: has the run judge its last
    update. note: what else happened that the reader should know.
    """

    step: int
    seen: int
    outcomes: Mapping[str, Outcome]
    leader: str
    rate: float
    progress: float
    judge_pending: Callable[[], None]
    note: str | None = None

    @property
    def outcome(self) -> Outcome:
        """The leader's outcome."""
        return self.outcomes[self.leader]

    @property
    def loss(self) -> Tensor:
        """The mean over the batch, (); on the device until the update is judged."""
        return self.outcome.loss

    @property
    def per_sample(self) -> Tensor:
        """Each sample's loss, (batch,); on the device until the update is judged."""
        return self.outcome.per_sample

    @property
    def t(self) -> Tensor:
        """Each sample's time, (batch,); on the device until the update is judged."""
        return self.outcome.t

    @property
    def gradient_norm(self) -> Tensor:
        """The norm of the gradient before clipping, (); on the device until it is judged."""
        return self.outcome.norm

    @property
    def judged(self) -> bool:
        """Whether every player's update has been judged."""
        return all(outcome.judged for outcome in self.outcomes.values())

    @property
    def fault(self) -> Fault | None:
        """What went wrong with the first update that failed; where fault.skipped it was not made.

        Waits for the device where the update is not judged. None of an update that was undone
        before it was judged.
        """
        if not self.judged:
            self.judge_pending()
        return next((o.fault for o in self.outcomes.values() if o.fault is not None), None)
