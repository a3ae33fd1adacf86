"""Bugs to plant in samples streamed to the disk: (name, file, right, wrong, *tests)."""

MANY, STATE = "pipelines/sample_many.py", "pipelines/sample_state.py"
FILES, BLOCKS = "pipelines/sample_files.py", "pipelines/sample_blocks.py"
DRAWN, REFUSED = "tests/pipelines/test_sample_many.py", "tests/pipelines/test_sample_refusals.py"
LAYOUT = "safe_files/atomic_folder.py"
SAMPLE, VERB = "tests/sampling/test_sample.py", "tests/cli/test_sample.py"

STREAMED = [
    (
        "streamed: a block is marked before it is written", MANY,
        "            output.write(made)\n",
        "            blocks.mark(k, made.nfe)\n            output.write(made)\n",
        f"{DRAWN}::test_killed_before_any_of_its_file_operations",
        f"{REFUSED}::test_a_disk_that_fills_up_loses_nothing",
    ),
    (
        "streamed: a block that was done meanwhile is drawn again", BLOCKS,
        "if not self.done(block):", "if True:",
        f"{DRAWN}::test_processes_that_a_launcher_started_share_the_blocks",
    ),
    (
        "streamed: blocks are not held against other processes", BLOCKS,
        "return error.errno not in _TAKEN", "return True",
        f"{DRAWN}::test_a_block_that_another_process_holds_is_left_to_it",
    ),
    (
        "streamed: blocks of a process that died are left", BLOCKS,
        "            if not held:\n", "            if True:\n",
        f"{DRAWN}::test_a_block_whose_holder_dies_meanwhile_is_had_in_the_end",
    ),
    (
        "streamed: blocks are counted from the first sample", "sampling/stream.py",
        "min(self.first + self.n, (block + 1) * self.batch)",
        "min(self.first + self.n, start + self.batch)",
        f"{SAMPLE}::test_blocks_are_cut_at_multiples_of_the_batch",
    ),
    (
        "streamed: the noise of a block begins at 0", "sampling/stream.py",
        'Streams(self.seed, rows, "sample")', 'Streams(self.seed, range(len(rows)), "sample")',
        f"{DRAWN}::test_blocks_lie_where_they_lie_whatever_the_first_is",
    ),
    (
        "streamed: labels one a sample are counted from sample 0", "sampling/classes.py",
        "start = (rows.start - self.offset)", "start = rows.start",
        f"{SAMPLE}::test_labels_whatever_the_first_is",
    ),
    (
        "streamed: the array is written at the index of the seed", FILES,
        "(block.first - self.stream.first)", "block.first",
        f"{DRAWN}::test_blocks_lie_where_they_lie_whatever_the_first_is",
    ),
    (
        "streamed: a write that was cut short is taken for whole", FILES,
        "                while content:\n", "                if content:\n",
        f"{REFUSED}::test_a_disk_that_takes_a_part_at_a_time",
    ),
    (
        "streamed: another guidance goes on in the same array", STATE,
        '        "guidance": plan.config.guidance,\n', "",
        f"{REFUSED}::test_another_request_is_refused_naming_what_differs",
    ),
    (
        "streamed: other weights go on in the same array", STATE,
        '        "weights_sha256": model.weights_sha256,\n', "",
        f"{REFUSED}::test_another_request_is_refused_naming_what_differs",
    ),
    (
        "streamed: what is there is written over", STATE,
        "    if reason := output.occupied():\n", "    if reason := None:\n",
        f"{REFUSED}::test_what_is_there_already_is_never_written_over",
    ),
    (
        "streamed: what appeared meanwhile is written over", FILES,
        "                if reason := self.occupied():\n", "                if reason := None:\n",
        f"{REFUSED}::test_what_appears_meanwhile_is_not_written_over",
    ),
    (
        "streamed: what a kill left at the very end stays", STATE,
        "        shutil.rmtree(output.work, ignore_errors=True)  # of one that", "        pass  # ",
        f"{DRAWN}::test_killed_before_any_of_its_file_operations",
    ),
    (
        "streamed: a kill leaves a file beside the samples", STATE,
        '            write_json(output.work / "finished.json", tree)\n'
        "            with writing(output.out):\n"
        '                (output.work / "finished.json").replace(output.card)\n'
        "                sync(output.card.parent)\n",
        "            write_json(output.card, tree)\n",
        f"{DRAWN}::test_killed_before_any_of_its_file_operations",
    ),
    (
        "streamed: after a kill between the two, labels are left out", FILES,
        "            if self.stream.labels is not None and not self.labels.exists():\n",
        "                pass\n            else:\n                return\n"
        "            if self.stream.labels is not None:\n",
        f"{DRAWN}::test_killed_before_any_of_its_file_operations",
    ),
    (
        "streamed: a finished array that was cut short is taken for whole", FILES,
        "if self.out.stat().st_size != self.size:", "if False:",
        f"{REFUSED}::test_finished_files_that_were_changed_are_said",
    ),
    (
        "streamed: a full disk is found when it is full", FILES,
        "if self.size > free:", "if self.size < 0:",
        f"{REFUSED}::test_no_room_is_found_before_work",
    ),
    (
        "streamed: all samples are kept until the end", MANY,
        "            output.write(made)\n",
        "            output.write(made)\n            vars(stream.model)[str(k)] = made\n",
        f"{DRAWN}::test_memory_does_not_grow_with_n",
    ),
    (
        "streamed: what is finished is drawn again", STATE,
        "    if not output.card.is_file():\n", "    if True:\n",
        f"{DRAWN}::test_what_is_finished_is_not_drawn_again",
    ),
    (
        "streamed: going on forgets what is given beside", STATE,
        '{**read(place)["asked"], **given}', '{**given, **read(place)["asked"]}',
        f"{VERB}::test_an_array_goes_on_with_the_options_it_was_begun_with",
    ),
    (
        "streamed: threads are not given back", MANY,
        "        torch.set_num_threads(before)\n", "        pass\n",
        f"{DRAWN}::test_threads_are_given_back",
    ),
    (
        "streamed: a start that fails leaves the folders around its own", LAYOUT,
        "        for place in missing:\n", "        for place in missing[:1]:\n",
        f"{REFUSED}::test_a_start_that_fails_at_any_operation_leaves_no_folder_behind",
    ),
    (
        "streamed: a start that fails takes empty folders that were there", LAYOUT,
        " if not os.path.lexists(place)]", "]",
        f"{REFUSED}::test_a_start_that_fails_at_any_operation_leaves_no_folder_behind",
    ),
]  # fmt: skip
