"""Bugs in the training loop, and in updates that are judged late."""

from contextlib import contextmanager

import torch

from unnoise.objectives import variational
from unnoise.training import batches, distributed, guard, judge, loop, muon, outcome, recovery
from unnoise.training.optimizers import Optimizers

from .planting import mutation

PROCESSES, BATCHES = "tests/training/test_processes.py", "tests/training/test_batches.py"
LATE, RUNS = "tests/training/test_late.py", "tests/training/test_late_runs.py"
SKIPPED = f"{LATE}::test_the_same_updates_are_skipped_and_nothing_is_left_of_them"
WAITS = "tests/training/test_device.py::test_an_update_waits_for_nothing"
FITS = f"{BATCHES}::test_processes_agree_on_what_fits"
BACK = f"{LATE}::test_going_back_undoes_the_update_made_meanwhile"


@contextmanager
def silenced(owner, name):
    """Inside, the method `owner.name` of one object does nothing."""
    setattr(owner, name, lambda *_, **__: None)
    try:
        yield
    finally:
        delattr(owner, name)


def unjudged(patch, owner, name, training_of=lambda self: self):
    """Let a method of `owner` go without judging the update that is pending."""

    def wrap(right):
        def wrong(self, *given):
            with silenced(training_of(self), "judge_pending"):
                return right(self, *given)

        return wrong

    patch.around(owner, name, wrap)


@mutation(
    "loop: every process takes the same samples",
    f"{PROCESSES}::test_processes_take_the_samples_in_turn",
)
def _(patch):
    def wrap(right):
        def wrong(self, counter, size):
            return right(self, counter - self.processes.rank * size, size)

        return wrong

    patch.around(loop.Training, "batch", wrap)


@mutation(
    "loop: gradients of a failed try stay",
    f"{BATCHES}::test_what_does_not_fit_is_halved_and_the_update_made_again",
)
def _(patch):
    def wrap(right):
        def wrong(self, player, whole, again):
            with silenced(player.optimizers, "zero_grad"):
                return right(self, player, whole, again)

        return wrong

    patch.around(loop.Training, "_losses", wrap)


@mutation(
    "loop: what an objective learned in a failed try stays",
    f"{BATCHES}::test_what_an_objective_learned_in_the_failed_try_is_forgotten",
)
def _(patch):
    patch.attribute(variational.Variational, "load_state", lambda self, state: None)


@mutation("loop: each process shrinks its parts alone", FITS)
def _(patch):
    def wrong(found, self, parameters, failed=False):
        return failed

    patch.result(distributed.Processes, "sum_gradients", wrong)


@mutation(
    "loop: what fits is not in the checkpoint",
    f"{BATCHES}::test_what_fits_is_remembered_over_a_pause",
)
def _(patch):
    patch.attribute(batches.Parts, "load", lambda self, most: None)


@mutation(
    "loop: the ramp's batch is stratified as the whole one",
    f"{BATCHES}::test_times_are_stratified_over_the_batch_as_it_is",
)
def _(patch):
    sizes = []

    def wrap(right):
        def wrong(self, player, whole, again):
            sizes.append(self.config.batch)
            return right(self, player, whole, again)

        return wrong

    right = loop.replace
    patch.around(loop.Training, "_losses", wrap)
    patch.here(loop, "replace", lambda batch, start, whole: right(
        batch, start=start, whole=sizes[-1]
    ))  # fmt: skip


@mutation(
    "loop: samples of the ramp are counted as of whole batches",
    f"{BATCHES}::test_updates_take_the_ramps_samples_each_once",
)
def _(patch):
    def wrap(right):
        def wrong(self):
            before = self.seen
            found = right(self)
            self.seen = before + self.config.batch
            return found

        return wrong

    patch.around(loop.Training, "_round", wrap)


@mutation(
    "loop: loss and norm are read one by one",
    "tests/training/test_synchronisation.py::test_an_update_is_read_once",
)
def _(patch):
    def wrap(right):
        def wrong(self, name, loss, norm, scale):
            norm.item()
            return right(self, name, loss, norm, scale)

        return wrong

    patch.around(guard.Guard, "judge", wrap)


@mutation("late: Muon takes in a bad gradient", SKIPPED)
def _(patch):
    def wrap(right):
        def wrong(self, closure=None):
            if hasattr(self, "found_inf"):
                self.found_inf = torch.zeros_like(self.found_inf)
            return right(self, closure)

        return wrong

    patch.around(muon.Muon, "step", wrap)


@mutation("late: the optimizers are not told of a bad update", SKIPPED)
def _(patch):
    patch.around(Optimizers, "step", lambda right: lambda self, bad=None: right(self))


@mutation("late: the average takes in an update that was not made", SKIPPED)
def _(patch):
    def wrong(self):
        pending, self._pending = self._pending, None
        if pending is not None and not self.guard.broken:
            self.judge(*pending)
            pending[0].average()

    patch.attribute(judge.Judge, "judge_pending", wrong)


@mutation("late: an infinite loss with a finite gradient is made", SKIPPED)
def _(patch):
    patch.attribute(
        outcome.Outcome, "bad", property(lambda self: (~torch.isfinite(self.norm.detach())).float())
    )


@mutation("late: a fault is said of the update that finds it", SKIPPED)
def _(patch):
    patch.around(
        outcome.Outcome,
        "__init__",
        lambda right: lambda self, step, *given: right(self, step + bool(given[-1]), *given),
    )


@mutation("late: the row is looked for in the next batch", SKIPPED)
def _(patch):
    patch.around(
        outcome.Outcome,
        "__init__",
        lambda right: (
            lambda self, step, seen, per_sample, *given: right(
                self, step, seen + bool(given[-1]) * per_sample.numel(), per_sample, *given
            )
        ),
    )


@mutation(
    "late: a state is saved with an update that is not judged",
    f"{LATE}::test_a_state_holds_no_update_that_is_not_judged",
)
def _(patch):
    unjudged(patch, loop.Training, "state")


@mutation(
    "late: the held-out loss is that of an average one update old",
    f"{LATE}::test_the_held_out_loss_is_that_of_every_update_so_far",
)
def _(patch):
    unjudged(patch, loop.Training, "held_out")


@mutation(
    "late: the last update ends the run unjudged",
    f"{LATE}::test_a_last_update_that_breaks_the_run_is_judged_before_it_ends",
)
def _(patch):
    patch.attribute(
        loop.Training,
        "judge_pending",
        lambda self: None if self.progress >= 1 else self.judge.judge_pending(),
    )


@mutation("late: going back leaves an update to be judged", BACK)
def _(patch):
    patch.attribute(judge.Judge, "forget", lambda self: None)


@mutation(
    "late: an update made on a broken run is judged",
    f"{RUNS}::test_a_whole_run_that_goes_back_writes_the_same",
)
def _(patch):
    def wrong(self):
        pending, self._pending = self._pending, None
        if pending is not None and self.judge(*pending):
            pending[0].average()

    patch.attribute(judge.Judge, "judge_pending", wrong)


@mutation(
    "late: snapshots of averages lack their last update",
    f"{RUNS}::test_a_whole_run_writes_the_same",
)
def _(patch):
    unjudged(patch, recovery.Recovery, "keep", lambda self: self.training)


@mutation(
    "late: the process that writes alone hears that the run is broken",
    f"{RUNS}::test_two_processes_go_back_together_where_averages_are_stored",
)
def _(patch):
    patch.around(
        recovery.Recovery,
        "keep",
        lambda right: lambda self, update: None if self.store is None else right(self, update),
    )


@mutation(
    "late: what is pending is waited for before the next gradients stand in the queue",
    f"{LATE}::test_an_update_is_judged_when_the_next_gradients_are_made",
)
def _(patch):
    def wrap(right):
        def wrong(self):
            self.judge_pending()
            return right(self)

        return wrong

    patch.around(loop.Training, "_round", wrap)


@mutation(
    "late: gradients are kept until the next update",
    f"{LATE}::test_no_gradient_is_held_until_the_next",
)
def _(patch):
    def wrap(right):
        def wrong(self, step, seen, per_sample, t, norm, named, late):
            named = list(named)
            right(self, step, seen, per_sample, t, norm, named, late)
            self._grads = [p.grad for _, p in named if p.grad is not None]

        return wrong

    patch.around(outcome.Outcome, "__init__", wrap)


@mutation("device: the numbers are waited for where they are sent", WAITS)
def _(patch):
    def wrap(right):
        def wrong(self, parts):
            parts[0].detach().cpu()
            right(self, parts)

        return wrong

    patch.around(outcome._Sent, "__init__", wrap)
