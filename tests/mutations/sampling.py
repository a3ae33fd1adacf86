"""Bugs in a request of sampling, in its stream of blocks, and in jobs on the disk."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from unnoise.networks import modulation_cache
from unnoise.sampling import InferenceCopy, SampleRequest, Stream

from .planting import module, mutation

MANY, REFUSED = "tests/pipelines/test_sample_many.py", "tests/pipelines/test_sample_refusals.py"
SAMPLE, REQUEST = "tests/sampling/test_sample.py", "tests/sampling/test_request.py"
COPY, VERB = "tests/sampling/test_inference_copy.py", "tests/cli/test_sample.py"

job, many = module("pipelines.sample_job"), module("pipelines.sample_many")
output, plan = module("pipelines.sample_files"), module("sampling.plan")
conditions, section = module("sampling.conditions"), module("recipes.sample_section")


@mutation(
    "stream: blocks are counted from the first sample",
    f"{SAMPLE}::test_blocks_are_cut_at_multiples_of_the_batch",
)
def _(patch):
    def wrong(self, block):
        start = max(self.first, block * self.batch)
        return range(start, min(self.first + self.n, start + self.batch))

    patch.attribute(Stream, "rows", wrong)


@mutation(
    "stream: labels one a sample are counted from sample 0",
    f"{SAMPLE}::test_labels_whatever_the_first_is",
)
def _(patch):
    patch.around(
        conditions.Labels,
        "of",
        lambda right: lambda self, rows: right(replace(self, offset=0), rows),
    )


@mutation("request: an interval is left out", f"{REQUEST}::test_guidance_in_every_spelling",
          f"{VERB}::test_interval_and_rescale_are_those_of_python",
          f"{MANY}::test_interval_and_rescale_reach_the_job",
          "tests/pipelines/test_measure.py::"
          "test_every_option_of_sampling_reaches_the_evaluation")  # fmt: skip
def _(patch):
    patch.around(
        section, "merged_guidance",
        lambda right: lambda own, given: right(own, {**given, "interval": None}),
    )  # fmt: skip


@mutation(
    "request: a scale forgets the recipe's interval", f"{REQUEST}::test_guidance_in_every_spelling"
)
def _(patch):
    def wrap(right):
        def wrong(own, given):
            scale = given.get("guidance")
            return right(() if isinstance(scale, int | float) else own, given)

        return wrong

    patch.around(section, "merged_guidance", wrap)


@mutation(
    "request: the scale of a request is not written", f"{REQUEST}::test_it_comes_back_from_json"
)
def _(patch):
    patch.result(
        SampleRequest, "to_dict",
        lambda tree, self: {k: v for k, v in tree.items() if k != "guidance"},
    )  # fmt: skip


@mutation(
    "guidance: the last section is innermost", f"{REQUEST}::test_sections_nest_the_first_innermost"
)
def _(patch):
    patch.around(plan, "guide", lambda right: lambda field, sections: right(field, sections[::-1]))


@mutation(
    "guidance: one without a null condition is let through",
    f"{SAMPLE}::test_guidance_without_a_condition_or_a_null_is_refused",
    "tests/recipes/test_build.py::test_impossible_recipes_are_refused_before_data_are_opened",
)
def _(patch):
    patch.around(
        module("recipes.sample_check"), "why_unsupported",
        lambda right: lambda config, solver, able: right(config, solver, replace(able, null=True)),
    )  # fmt: skip


@mutation(
    "inference copy: the weights are the model's own",
    f"{COPY}::test_a_model_is_what_it_was_when_it_first_sampled",
)
def _(patch):
    def wrong(cls, denoiser, precision):
        return cls(denoiser, precision, torch.device("cpu"), False)

    patch.attribute(InferenceCopy, "of", classmethod(wrong))


@mutation(
    "inference copy: what it stores is of the mode of the call",
    f"{COPY}::test_gradients_after_a_block_that_was_drawn_in_inference_mode",
    crashes=True,
)
def _(patch):
    class Torch:
        """torch, where inference mode is never left."""

        def __getattr__(self, name):
            return getattr(torch, name)

        @staticmethod
        def inference_mode(mode):
            return nullcontext()

    patch.attribute(modulation_cache, "torch", Torch())


@mutation(
    "job: blocks are not held against other processes",
    f"{MANY}::test_a_block_that_another_process_holds_is_left_to_it",
)
def _(patch):
    patch.attribute(job.Job, "_locked", lambda self, index: nullcontext())


@mutation(
    "job: blocks of a process that died are left",
    f"{MANY}::test_a_block_whose_holder_dies_meanwhile_is_had_in_the_end",
)
def _(patch):
    def wrap(right):
        def wrong(self, start=0):
            seen = set()
            for index in right(self, start):
                if index < min(seen, default=index):
                    return
                seen.add(index)
                yield index

        return wrong

    patch.around(job.Job, "claims", wrap)


@mutation(
    "job: another guidance goes on in the same array",
    f"{REFUSED}::test_another_request_is_refused_naming_what_differs",
    f"{MANY}::test_interval_and_rescale_reach_the_job",
)
def _(patch):
    patch.result(job, "drawn_by", lambda drawn, *_: drawn | {"guidance": []})


@mutation(
    "job: other weights go on in the same array",
    f"{REFUSED}::test_another_request_is_refused_naming_what_differs",
)
def _(patch):
    patch.result(job, "drawn_by", lambda drawn, *_: drawn | {"weights_sha256": ""})


@mutation(
    "job: what is there is written over",
    f"{REFUSED}::test_what_is_there_already_is_never_written_over",
)
def _(patch):
    patch.attribute(job.Job, "_need_free", lambda self: None)


@mutation(
    "job: an unfinished one of the old layout is gone on with",
    f"{REFUSED}::test_an_unfinished_job_of_the_old_layout_is_refused_with_a_remedy",
)
def _(patch):
    patch.result(job, "read", lambda tree, place: tree | {"format": job.FORMAT})


@mutation("job: what a kill left of a block stays in the array",
          f"{MANY}::test_killed_before_any_of_its_file_operations")  # fmt: skip
def _(patch):
    def wrong(self, done):
        with self.values.open("ab") as file:
            for index in range(len(self.stream)):
                path = self.blocks / f"{index:08d}-{done[index]}"
                file.write(path.read_bytes())
                file.flush()
                output.os.fsync(file.fileno())
                Path(path).write_bytes(b"")

    patch.attribute(output.ArrayOutput, "_join", wrong)


@mutation("job: a picture's block is done before its pictures are",
          f"{MANY}::test_killed_before_any_of_its_file_operations")  # fmt: skip
def _(patch):
    def wrap(right):
        def wrong(self, block):
            index = block.first // self.stream.batch - self.stream.blocks[0]
            (self.blocks / f"{index:08d}-{block.nfe}").touch()
            return right(self, block)

        return wrong

    patch.around(output.FolderOutput, "write", wrap)


@mutation(
    "artifact: of a changed description of format 2 the seal is made anew",
    "tests/artifacts/test_formats.py::test_a_changed_old_description_is_seen",
)
def _(patch):
    read = module("artifacts.read")
    patch.attribute(read, "sealed", lambda tree: dict(tree))
