"""Bugs in training: processes, workers, checkpoints, the log, optimizers and averages."""

import os
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace

import filelock
import torch
import torch.utils.data

from unnoise.safe_files import files
from unnoise.training import (
    averages,
    budget,
    checkpoints,
    distributed,
    ema,
    feed,
    judge,
    log,
    muon,
    player,
    post_hoc,
    run,
)

from .planting import Shim, mutation

PROCESSES, WORKERS = "tests/training/test_processes.py", "tests/training/test_feed.py"
KILLED, FOLDER = "tests/training/test_killed.py", "tests/training/test_folder.py"
MUON, AVERAGES = "tests/training/test_muon.py", "tests/training/test_post_hoc.py"
PLAYERS = "tests/training/test_players.py"
SAVED, LOGGED = "tests/training/test_checkpoints.py", "tests/training/test_log.py"


@mutation(
    "training: gradients of the other processes are left out",
    f"{PROCESSES}::test_two_processes_are_one",
)
def _(patch):
    def wrap(right):
        def wrong(self, parameters, failed=False):
            self.sum = lambda numbers: numbers
            try:
                return right(self, parameters, failed)
            finally:
                del self.sum

        return wrong

    patch.around(distributed.Processes, "sum_gradients", wrap)


@mutation(
    "training: the rate grows with the number of processes",
    f"{PROCESSES}::test_two_processes_are_one",
)
def _(patch):
    def wrong(found, self, parameters, failed=False):
        for p in parameters:
            if p.grad is not None:
                p.grad.mul_(self.count)
        return found

    patch.result(distributed.Processes, "sum_gradients", wrong)


@mutation(
    "training: each process stops by its own clock",
    f"{PROCESSES}::test_a_budget_of_time_is_the_first_process_s",
)
def _(patch):
    patch.attribute(distributed.Processes, "broadcast", lambda self, number: number)


@mutation(
    "training: a signal stops the process that got it alone",
    f"{PROCESSES}::test_a_signal_to_either_process_stops_both_at_the_same_update",
)
def _(patch):
    patch.attribute(distributed.Processes, "any", lambda self, *flags: list(flags))


@mutation(
    "training: every process writes the log",
    f"{PROCESSES}::test_a_whole_run_is_written_by_the_first_process_alone",
)
def _(patch):
    folders = []

    def wrap(right):
        def wrong(recipe, out, *given):
            folders.append(out)
            return right(recipe, out, *given)

        return wrong

    made = log.Log
    patch.around(run, "_train", wrap)
    patch.here(run, "Log", lambda out, *given: made(folders[-1], *given))


@mutation(
    "training: a loader draws from the global generator",
    f"{WORKERS}::test_workers_draw_nothing_from_the_global_generator",
)
def _(patch):
    right = torch.utils.data.DataLoader
    patch.attribute(
        torch.utils.data,
        "DataLoader",
        lambda *given, **options: right(*given, **{**options, "generator": None}),
    )


@mutation(
    "training: a loader goes on where it was after a jump",
    f"{WORKERS}::test_batches_are_made_in_other_processes_and_ahead",
)
def _(patch):
    def wrap(right):
        def wrong(self, counter):
            if self._ahead is not None:
                self._next = counter
            return right(self, counter)

        return wrong

    patch.around(feed.Feed, "seek", wrap)


@mutation(
    "training: workers die of the group's signal",
    f"{WORKERS}::test_a_signal_to_the_whole_group_leaves_no_worker_behind",
)
def _(patch):
    patch.attribute(
        feed, "_quiet", lambda worker: signal.signal(signal.SIGINT, signal.SIG_IGN) and None
    )


@mutation(
    "training: workers that nobody closed keep the process",
    f"{WORKERS}::test_workers_end_with_the_process_though_nobody_closed_them",
)
def _(patch):
    patch.here(feed, "Finalize", lambda *given, **options: lambda: None)


@mutation(
    "checkpoints: nothing waits for the disk",
    f"{KILLED}::test_a_save_killed_before_any_of_its_file_operations",
)
def _(patch):
    patch.here(files, "os", Shim(os, fsync=lambda handle: None))


@mutation(
    "checkpoints: latest is written before it is there",
    f"{KILLED}::test_a_save_killed_before_any_of_its_file_operations",
)
def _(patch):
    right = checkpoints.sync

    def wrong(folder):
        right(folder)
        if folder.name.endswith(".part"):
            name = folder.name.removeprefix(".").removesuffix(".part")
            checkpoints.write_bytes(folder.parent / "latest", name.encode())

    patch.here(checkpoints, "sync", wrong)


@mutation(
    "checkpoints: removed under their own name",
    f"{SAVED}::test_what_is_removed_is_never_half_a_checkpoint",
)
def _(patch):
    patch.attribute(
        checkpoints.Checkpoints,
        "_remove",
        lambda self, name: shutil.rmtree(self.folder / name, ignore_errors=True),
    )


@mutation(
    "checkpoints: keep_every is ignored", f"{SAVED}::test_every_nth_is_kept_beside_the_newest"
)
def _(patch):
    patch.around(
        checkpoints.Checkpoints,
        "__init__",
        lambda right: (
            lambda self, run, keep=2, keep_every=None, read_only=False: right(
                self, run, keep, None, read_only
            )
        ),
    )


@mutation(
    "checkpoints: what a save left stays",
    f"{KILLED}::test_a_save_killed_before_any_of_its_file_operations",
)
def _(patch):
    def wrong(path, ignore_errors=False):
        if not path.name.endswith((".part", ".old")):
            shutil.rmtree(path, ignore_errors)

    patch.here(checkpoints, "shutil", Shim(shutil, rmtree=wrong))


@mutation(
    "run: the folder is not held",
    f"{FOLDER}::test_a_second_process_is_refused_and_told_whose_the_folder_is",
)
def _(patch):
    patch.attribute(filelock.BaseFileLock, "acquire", lambda self, **options: None)


@mutation(
    "log: half a line is written on",
    f"{LOGGED}::test_a_last_line_cut_short_by_a_kill_is_left_out_and_mended",
)
def _(patch):
    patch.attribute(log, "_mend", lambda path: None)


@mutation(
    "log: what was done again is told twice",
    f"{LOGGED}::test_lines_that_were_done_again_are_left_out_unless_asked_for",
)
def _(patch):
    patch.around(log, "read_log", lambda right: lambda run, superseded=False: right(run, True))


@mutation(
    "update: Newton–Schulz squares all singular values at once",
    f"{MUON}::test_rounding_of_small_singular_values_stays_that_of_the_plain_iteration",
)
def _(patch):
    patch.attribute(muon, "_parts", lambda steps: [steps])


@mutation(
    "update: Muon in bfloat16 on the CPU too",
    f"{PROCESSES}::test_the_shipped_digits_recipe_with_muon_is_the_same_on_two",
)
def _(patch):
    def wrap(right):
        def wrong(matrices, *given):
            found = right([matrix.bfloat16() for matrix in matrices], *given)
            return [u.to(m.dtype) for u, m in zip(found, matrices, strict=True)]

        return wrong

    patch.around(muon, "_all_orthogonal", wrap)


@mutation(
    "update: equal shapes get each other's updates",
    f"{MUON}::test_what_has_no_gradient_stays_and_equal_shapes_are_not_mixed_up",
)
def _(patch):
    def wrong(found, matrices, *_):
        places = {}
        for i, matrix in enumerate(matrices):
            places.setdefault(matrix.shape, []).append(i)
        out = list(found)
        for alike in places.values():
            for i, j in zip(alike, alike[::-1], strict=True):
                out[i] = found[j]
        return out

    patch.result(muon, "_all_orthogonal", wrong)


@mutation("update: Muon's rate does not know the shape", f"{MUON}::test_the_rule_is_torchs")
def _(patch):
    patch.attribute(muon, "_stretch", lambda rule, matrix: 1.0)


@mutation(
    "update: a cadence shortens the average",
    "tests/training/test_ema.py::test_a_cadence_keeps_the_length",
)
def _(patch):
    patch.around(
        ema.Ema, "_take", lambda right: lambda self, count, averages: right(self, 1, averages)
    )


@mutation(
    "update: shares of stored averages do not sum to one",
    f"{AVERAGES}::test_weights_that_stand_still_stay_as_they_are",
)
def _(patch):
    def wrong(found, *_, **__):
        *rest, last = found.shares
        return replace(found, shares=(*rest, last + 2 * sum(min(s, 0) for s in rest)))

    patch.result(post_hoc, "mix_of", wrong)


@mutation(
    "update: the profile of a stored average is not cut at its end",
    f"{AVERAGES}::test_a_length_that_was_not_stored",
)
def _(patch):
    patch.attribute(
        post_hoc, "_profile", lambda t, gamma, end: (gamma + 1) / end * (t / end) ** gamma
    )


@mutation(
    "update: averages stored after a pause's checkpoint stay",
    f"{AVERAGES}::test_what_is_stored_later_than_where_a_run_goes_on_is_forgotten",
)
def _(patch):
    patch.attribute(averages.Averages, "forget", lambda self, after: None)


@mutation(
    "update: the first update of a budget is judged by",
    "tests/training/test_budget.py::test_a_slow_first_update_is_not_judged_by",
)
def _(patch):
    def wrap(right):
        def wrong(training, last):
            stands = Shim(training, step=max(training.step, 2))
            return right(stands, last)

        return wrong

    patch.around(budget, "require_enough_updates", wrap)


@mutation(
    "players: gradients reach the weights of the other player",
    f"{PLAYERS}::test_no_gradient_reaches_the_other_player",
)
def _(patch):
    right = player.needed_by

    @contextmanager
    def wrong(one, players, frozen):
        with right(one, players, frozen) as needed:
            for other in players.values():
                other.model.requires_grad_(True)
            yield needed

    patch.attribute(player, "needed_by", wrong)


@mutation(
    "players: the average that an objective sees is a copy of the first weights",
    f"{PLAYERS}::test_an_objective_is_given_the_teacher_and_its_own_average",
)
def _(patch):
    def wrap(right):
        def wrong(self, *given):
            right(self, *given)
            for p in self.averaged.parameters() if self.averaged is not None else ():
                p.data = p.data.clone()

        return wrong

    patch.around(player.Player, "place", wrap)


@mutation(
    "players: a deferred update is taken into no average",
    f"{PLAYERS}::test_judged_late_two_players_are_the_same",
)
def _(patch):
    patch.attribute(judge.Judge, "judge_pending", lambda self: self.forget())


@mutation(
    "players: an average's count of updates is not restored",
    f"{PLAYERS}::test_two_players_are_resumed_bit_for_bit",
)
def _(patch):
    def wrap(right):
        def wrong(self, state):
            right(self, state | {"ema_updates": 0})

        return wrong

    patch.around(player.Player, "load_state", wrap)


@mutation(
    "checkpoints: the guard's sizes of an earlier format are lost",
    f"{SAVED}::test_a_checkpoint_of_an_earlier_format_is_gone_on_with",
)
def _(patch):
    def wrong(found, *_):
        return found[0] | {"guard": {**found[0]["guard"], "sizes": {}}}, found[1]

    patch.result(checkpoints, "_with_player", wrong)
