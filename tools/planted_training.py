"""Bugs to plant in training and its checkpoints: (name, file, right, wrong, *tests)."""

LOOP, RUN = "training/loop.py", "training/run.py"
CHECKPOINTS, FEED = "training/checkpoints.py", "training/feed.py"
PROCESSES, WORKERS = "tests/training/test_processes.py", "tests/training/test_feed.py"
KILLED, FOLDER = "tests/training/test_killed.py", "tests/training/test_folder.py"
MUON, AVERAGES = "tests/training/test_muon.py", "tests/training/test_post_hoc.py"
BATCHES = "tests/training/test_batches.py"
SAVED, LOGGED = "tests/training/test_checkpoints.py", "tests/training/test_log.py"

TRAINING = [
    (
        "training: gradients of the other processes are left out", "training/together.py",
        "        self.add(flat)\n", "        self.add(flat.clone())\n",
        f"{PROCESSES}::test_two_processes_are_one",
    ),
    (
        "training: the rate grows with the number of processes", LOOP,
        "loss.value / (count * together.count)",
        "loss.value / count",
        f"{PROCESSES}::test_two_processes_are_one",
    ),
    (
        "training: every process takes the same samples", LOOP,
        "start = (k * together.count + together.rank) * size",
        "start = k * together.count * size",
        f"{PROCESSES}::test_processes_take_the_samples_in_turn",
    ),
    (
        "training: times are stratified over a part of the batch", "objectives/times.py",
        "(len(u) if whole is None else whole)", "len(u)",
        "tests/training/test_loop.py::test_accumulated_parts_are_one_batch",
    ),
    (
        "training: each process stops by its own clock", LOOP,
        "self.elapsed = together.of_first(self.elapsed)", "pass",
        f"{PROCESSES}::test_a_budget_of_time_is_the_first_process_s",
    ),
    (
        "training: a signal stops the process that got it alone", RUN,
        "together.any(stopped(), saving and together.first)", "stopped(), saving",
        f"{PROCESSES}::test_a_signal_to_either_process_stops_both_at_the_same_update",
    ),
    (
        "training: every process writes the log", RUN,
        "Log(out if together.first else None,", "Log(out,",
        f"{PROCESSES}::test_a_whole_run_is_written_by_the_first_process_alone",
    ),
    (
        "training: a loader draws from the global generator", FEED,
        "generator=torch.Generator(),", "generator=None,",
        f"{WORKERS}::test_workers_draw_nothing_from_the_global_generator",
    ),
    (
        "training: a loader goes on where it was after a jump", FEED,
        "self._ahead is not None and counter == self._next", "self._ahead is not None",
        f"{WORKERS}::test_batches_are_made_in_other_processes_and_ahead",
    ),
    (
        "training: workers die of the group's signal", FEED,
        "    signal.signal(signal.SIGTERM, note)\n", "    del note\n",
        f"{WORKERS}::test_a_signal_to_the_whole_group_leaves_no_worker_behind",
    ),
    (
        "training: workers that nobody closed keep the process", FEED,
        "self._end = Finalize(self, _shut, (self._ahead,), exitpriority=10)", "pass",
        f"{WORKERS}::test_workers_end_with_the_process_though_nobody_closed_them",
    ),
    (
        "checkpoints: nothing waits for the disk", "safe_files/files.py",
        "os.fsync(file.fileno())", "pass",
        f"{KILLED}::test_a_save_killed_before_any_of_its_file_operations",
    ),
    (
        "checkpoints: latest is written before it is there", CHECKPOINTS,
        "            beside.rename(final)\n",
        '            write_bytes(self.folder / "latest", name.encode())\n'
        "            beside.rename(final)\n",
        f"{KILLED}::test_a_save_killed_before_any_of_its_file_operations",
    ),
    (
        "checkpoints: removed under their own name", CHECKPOINTS,
        'gone = self.folder / f".{name}.gone"', "gone = self.folder / name",
        f"{SAVED}::test_what_is_removed_is_never_half_a_checkpoint",
    ),
    (
        "checkpoints: keep_every is ignored", CHECKPOINTS,
        "if self.keep_every is not None:", "if False:",
        f"{SAVED}::test_every_nth_is_kept_beside_the_newest",
    ),
    (
        "checkpoints: what a save left stays", CHECKPOINTS,
        'self.folder.glob(".step-*"):', 'self.folder.glob(".step-*.never"):',
        f"{KILLED}::test_a_save_killed_before_any_of_its_file_operations",
    ),
    (
        "run: the folder is not held", "training/folder.py",
        "lock.acquire(timeout=_DYING)", "pass",
        f"{FOLDER}::test_a_second_process_is_refused_and_told_whose_the_folder_is",
    ),
    (
        "log: half a line is written on", "training/log.py",
        "            file.truncate(whole)\n", "            pass\n",
        f"{LOGGED}::test_a_last_line_cut_short_by_a_kill_is_left_out_and_mended",
    ),
    (
        "log: what was done again is told twice", "training/log.py",
        "            rows.pop()\n", "            break\n",
        f"{LOGGED}::test_lines_that_were_done_again_are_left_out_unless_asked_for",
    ),    (
        "update: Newton–Schulz squares all singular values at once", "training/muon.py",
        "parts = max(1, math.ceil(steps / 3))", "parts = 1",
        f"{MUON}::test_rounding_of_small_singular_values_stays_that_of_the_plain_iteration",
    ),
    (
        "update: Muon in bfloat16 on the CPU too", "training/muon.py",
        'coarse = given[0].device.type != "cpu" and', "coarse =",
        f"{PROCESSES}::test_the_shipped_digits_recipe_with_muon_is_the_same_on_two",
    ),
    (
        "update: equal shapes get each other's updates", "training/muon.py",
        "for i, matrix in zip(places, found, strict=True):",
        "for i, matrix in zip(places[::-1], found, strict=True):",
        f"{MUON}::test_what_has_no_gradient_stays_and_equal_shapes_are_not_mixed_up",
    ),
    (
        "update: Muon's rate does not know the shape", "training/muon.py",
        "return math.sqrt(max(1, rows / columns))", "return 1.0",
        f"{MUON}::test_the_rule_is_torchs",
    ),
    (
        "update: a cadence shortens the average", "training/ema.py",
        "self._take(self.every)", "self._take(1)",
        "tests/training/test_ema.py::test_a_cadence_keeps_the_length",
    ),
    (
        "update: shares of stored averages do not sum to one", "training/post_hoc.py",
        "shares[last] = 1 - shares.sum()", "shares[last] = 1 - np.abs(shares).sum()",
        f"{AVERAGES}::test_weights_that_stand_still_stay_as_they_are",
    ),
    (
        "update: the profile of a stored average is not cut at its end", "training/post_hoc.py",
        "np.where(t <= end, (gamma + 1) / end * share**gamma, 0.0)",
        "(gamma + 1) / end * share**gamma",
        f"{AVERAGES}::test_a_length_that_was_not_stored",
    ),
    (
        "update: averages stored after a pause's checkpoint stay", "training/averages.py",
        'if e["step"] <= after])', "])",
        f"{AVERAGES}::test_what_is_stored_later_than_where_a_run_goes_on_is_forgotten",
    ),
    (
        "update: gradients of a failed try stay", LOOP,
        "            losses.clear()\n            self.optimizers.zero_grad()\n",
        "            losses.clear()\n",
        f"{BATCHES}::test_processes_agree_on_what_fits",
    ),
    (
        "update: what an objective learned in a failed try stays", LOOP,
        "self.objective.load_state(before)", "pass",
        f"{BATCHES}::test_what_an_objective_learned_in_the_failed_try_is_forgotten",
    ),
    (
        "update: each process shrinks its parts alone", "training/together.py",
        "        if any_failed:\n", "        if failed:\n",
        f"{BATCHES}::test_processes_agree_on_what_fits",
    ),
    (
        "update: what fits is not in the checkpoint", CHECKPOINTS,
        'numbers |= {"part": state["part"]} if state.get("part") else {}', "pass",
        f"{BATCHES}::test_what_fits_is_remembered_over_a_pause",
    ),
    (
        "update: the ramp's batch is stratified as the whole one", LOOP,
        "replace(batch, start=start, whole=whole)",
        "replace(batch, start=start, whole=self.config.batch)",
        f"{BATCHES}::test_times_are_stratified_over_the_batch_as_it_is",
    ),
    (
        "update: samples of the ramp are counted as of whole batches", LOOP,
        "self.seen += whole", "self.seen += self.config.batch",
        f"{BATCHES}::test_updates_take_the_ramps_samples_each_once",
    ),
    (
        "update: loss and norm are read one by one", "training/guard.py",
        "torch.stack([loss.detach().float(), norm.detach().float()]).tolist()",
        "loss.item(), norm.item()",
        "tests/training/test_synchronisation.py::test_an_update_is_read_once",
    ),
    (
        "update: the first update of a budget is judged by", "training/few.py",
        "(training.step < 2 and training.progress < 1)", "False",
        "tests/training/test_budget.py::test_a_slow_first_update_is_not_judged_by",
    ),
    (
        "streams: the second draw starts again", "randomness.py",
        "                self._filled(self._generators, *earlier)\n", "                pass\n",
        "tests/test_randomness.py::test_every_number_is_that_of_a_generator_of_its_own",
    ),
]  # fmt: skip
