"""Bugs to plant in training that does not wait for its GPU: (name, file, right, wrong, *tests)."""

LOOP, MUON, OUTCOME = "training/loop.py", "training/muon.py", "training/outcome.py"
LATE, DEVICE = "tests/training/test_late.py", "tests/training/test_device.py"
RUNS = "tests/training/test_late_runs.py"
SKIPPED = f"{LATE}::test_the_same_updates_are_skipped_and_nothing_is_left_of_them"
WAITS = f"{DEVICE}::test_an_update_waits_for_nothing"

LATE_BUGS = [
    (
        "late: Muon's momentum takes in a bad gradient", MUON,
        "grads = [torch.where(good, g, b) for g, b in zip(grads, kept, strict=True)]",
        "pass", SKIPPED,
    ),
    (
        "late: Muon's step of a bad update is made", MUON,
        "turned = [torch.where(good, u, 0) for u in turned]", "pass", SKIPPED,
    ),
    (
        "late: weights decay in a bad update", MUON,
        'decay = 1 - rate * group["weight_decay"] * good.double()', "pass",
        f"{LATE}::test_muon_changes_nothing_where_it_is_told_so_and_all_else_is_as_ever",
    ),
    (
        "late: the optimizers are not told of a bad update", "training/optimizers.py",
        "part.found_inf = bad  # type", "part.found_not = bad  # type", SKIPPED,
    ),
    (
        "late: the average takes in an update that was not made", LOOP,
        "not self.guard.broken and self._judged(outcome):",
        "not self.guard.broken and (self._judged(outcome) or True):", SKIPPED,
    ),
    (
        "late: an infinite loss with a finite gradient is made", OUTCOME,
        "both = torch.stack([self.loss.detach().float(), self.norm.detach().float()])",
        "both = self.norm.detach().float()", SKIPPED,
    ),
    (
        "late: a fault is said of the update that finds it", LOOP,
        "outcome = Outcome(self.step,", "outcome = Outcome(self.step + self.late,", SKIPPED,
    ),
    (
        "late: the row is looked for in the next batch", LOOP,
        "Outcome(self.step, self.seen,", "Outcome(self.step, self.seen + self.late * whole,",
        SKIPPED,
    ),
    (
        "late: a state is saved with an update that is not judged", LOOP,
        "        self.settle()\n        return state_of(self)", "        return state_of(self)",
        f"{LATE}::test_a_state_holds_no_update_that_is_not_judged",
    ),
    (
        "late: the held-out loss is that of an average one update old", LOOP,
        "        self.settle()\n        return held_out(", "        return held_out(",
        f"{LATE}::test_the_held_out_loss_is_that_of_every_update_so_far",
    ),
    (
        "late: the last update ends the run unjudged", LOOP,
        "if self.progress >= 1:\n                        self.settle()",
        "if self.progress >= 1:\n                        pass",
        f"{LATE}::test_a_last_update_that_breaks_the_run_is_judged_before_it_ends",
    ),
    (
        "late: going back leaves an update to be judged", LOOP,
        "        self._pending = None\n        restore(", "        restore(",
        f"{LATE}::test_going_back_undoes_the_update_made_meanwhile",
    ),
    (
        "late: an update made on a broken run is judged", LOOP,
        "outcome is not None and not self.guard.broken and", "outcome is not None and",
        f"{LATE}::test_going_back_undoes_the_update_made_meanwhile",
        f"{RUNS}::test_a_whole_run_that_goes_back_writes_the_same",
    ),
    (
        "late: snapshots of averages lack their last update", "training/recovery.py",
        "        training.settle()\n        if self.store is not None and not unsound",
        "        if self.store is not None and not unsound",
        f"{RUNS}::test_a_whole_run_writes_the_same",
    ),
    (
        "late: the process that writes alone hears that the run is broken", "training/recovery.py",
        "if kept is None or not due(", "if self.store is None or kept is None or not due(",
        f"{RUNS}::test_two_processes_go_back_together_where_averages_are_stored",
    ),
    (
        "late: what is pending is waited for before the next gradients stand in the queue", LOOP,
        "        self.guard.check(self.precision.name)\n",
        "        self.settle()\n        self.guard.check(self.precision.name)\n",
        f"{LATE}::test_an_update_is_judged_when_the_next_gradients_are_made",
    ),
    (
        "late: gradients are kept until the next update", OUTCOME,
        "self._sent, self._grads = _Sent(parts), []", "self._sent = _Sent(parts)",
        f"{LATE}::test_no_gradient_is_held_until_the_next",
    ),
    (
        "device: the numbers are waited for where they are sent", OUTCOME,
        'flat.to("cpu", non_blocking=True)', 'flat.to("cpu")', WAITS,
    ),
    (
        "device: noise is copied in a way that waits", "randomness.py",
        "numbers.to(device, non_blocking=not waits)", "numbers.to(device)",
        WAITS,
    ),
    (
        "device: labels are looked at in every forward pass", "networks/embeddings.py",
        "is_compiling() and not seen", "is_compiling()", WAITS,
    ),
    (
        "device: a chain brings its times to the host", "paths/chains.py",
        "return low.long(), low.long() + 1, position - low",
        "return low.long().cpu(), low.long().cpu() + 1, (position - low).cpu()", WAITS,
    ),
    (
        "device: the scale is put there for every batch", "data/resident.py",
        "self.values[rows], self.scale)", "self.values[rows])", WAITS,
    ),
    (
        "device: data take all that is free", "data/resident.py",
        "SHARE * free", "free", "tests/data/test_resident.py",
    ),
]  # fmt: skip
