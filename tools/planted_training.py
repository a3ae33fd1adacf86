"""Bugs to plant in training and its checkpoints: (name, file, right, wrong, *tests)."""

LOOP, RUN = "training/loop.py", "training/run.py"
CHECKPOINTS, FEED = "training/checkpoints.py", "training/feed.py"
PROCESSES, WORKERS = "tests/training/test_processes.py", "tests/training/test_feed.py"
KILLED, FOLDER = "tests/training/test_killed.py", "tests/training/test_folder.py"
SAVED, LOGGED = "tests/training/test_checkpoints.py", "tests/training/test_log.py"

TRAINING = [
    (
        "training: gradients of the other processes are left out", "training/together.py",
        "        self.add(flat)\n", "        self.add(flat.clone())\n",
        f"{PROCESSES}::test_two_processes_are_one",
    ),
    (
        "training: the rate grows with the number of processes", LOOP,
        "loss.value / (self.config.accumulate * together.count)",
        "loss.value / self.config.accumulate",
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
        "checkpoints: nothing waits for the disk", "artifacts/files.py",
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
    ),
]  # fmt: skip
