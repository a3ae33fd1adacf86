"""Bugs to plant in the memory of walks and in what fields remember: (name, file, right, wrong,
*tests)."""

SPARE, TERMS, MULTISTEP = "solvers/spare.py", "solvers/terms.py", "solvers/multistep.py"
DENOISER, GUIDED = "fields/denoiser.py", "guidance/classifier_free.py"
MEMORY, REMEMBERED = "tests/solvers/test_memory.py", "tests/fields/test_remembered.py"
KEPT = f"{MEMORY}::test_what_a_field_keeps_of_its_state_stays"
HELD = f"{MEMORY}::test_states_held"

WALKS = [
    (
        "walk: views of a state are not seen", SPARE,
        "torch._C._storage_Use_Count(memory._cdata)", "2", KEPT,
    ),
    ("walk: who holds a state is not asked", SPARE, "sys.getrefcount(x),", "4,", KEPT),
    (
        "walk: who holds a state's memory is not asked", SPARE,
        "sys.getrefcount(memory),", "3,", KEPT,
    ),
    (
        "walk: who holds a Prediction is not asked", SPARE,
        "sys.getrefcount(said),", "3,", f"{MEMORY}::test_what_on_step_keeps_stays",
    ),
    (
        "walk: a state is written over though a gradient needs it", SPARE,
        "if x.requires_grad or said.value.requires_grad or ", "if ",
        f"{MEMORY}::test_gradients_flow_where_nothing_is_kept_for_them",
    ),
    (
        "walk: the answer itself is written over as if it were the walk's own", TERMS,
        "or not self.mark(oldest).share:", "or False:", KEPT,
        f"{MEMORY}::test_what_on_step_keeps_stays",
    ),
    (
        "walk: plans made in inference mode stay its own", TERMS,
        "with torch.inference_mode(False):", "if True:",
        f"{MEMORY}::test_a_plan_made_in_inference_mode_serves_with_gradients",
    ),
    (
        "walk: the look before is held while the field looks", MULTISTEP,
        "                del said\n            del points[keep:]\n",
        "            del points[keep:]\n", HELD,
    ),
    ("walk: one look too many is kept", MULTISTEP, "keep, opened, large = self.points - 1,",
     "keep, opened, large = self.points,", HELD),
    ("walk: no memory is used again", SPARE, "_reach(said, x) == alone", "False", HELD),
    (
        "walk: a step's start is held to its end", "solvers/looks.py",
        "end = start.mul_(look.begin) if free else torch.mul(start, look.begin)",
        "end = torch.mul(start, look.begin)", HELD,
    ),
    (
        "walk: what is kept of a look is of its state where it should be of its value", TERMS,
        "return Mark(True, on_value / on_x)", "return Mark(False, on_value / on_x)",
        "tests/solvers/test_papers.py", "tests/solvers/test_order.py",
    ),
    (
        "walk: coefficients rounded to float32 for every state", TERMS,
        "kind = torch.float32 if dtype == torch.float32 else torch.float64",
        "kind = torch.float32", "tests/solvers/test_papers.py",
    ),
    (
        "denoiser: a time is remembered without its precision", DENOISER,
        "key = (t.item(), t.dtype, x_t.dtype, x_t.device, len(x_t))",
        "key = (round(t.item(), 6), x_t.dtype, x_t.device, len(x_t))", REMEMBERED,
    ),
    (
        "denoiser: coefficients of a float32 state for any", DENOISER,
        "t.dtype, x_t.dtype, x_t.device", "t.dtype, x_t.device", REMEMBERED,
    ),
    (
        "denoiser: levels of another batch", DENOISER,
        "x_t.device, len(x_t))", "x_t.device)", REMEMBERED,
    ),
    (
        "denoiser: settings changed are not seen", DENOISER,
        "self._kept_for != settings or", "not self._kept_for and not self._kept or", REMEMBERED,
    ),
    (
        "denoiser: times with tangents are remembered", "fields/plain.py",
        "forward_ad.unpack_dual(tensor).tangent is None", "True", REMEMBERED,
    ),
    (
        "denoiser: times with gradients are remembered", "fields/plain.py",
        "and not tensor.requires_grad", "", REMEMBERED,
    ),
    (
        "denoiser: coefficients made in inference mode stay its own", DENOISER,
        "with torch.inference_mode(False):", "if True:", REMEMBERED,
    ),
    (
        "denoiser: the dtype of a network that was replaced", DENOISER,
        "if self._first is not None and self._first[0] is network:",
        "if self._first is not None:", REMEMBERED,
    ),
    (
        "denoiser: copies share what is remembered", DENOISER,
        '{**self.__dict__, "_kept": {}, "_kept_for": (), "_first": None}', "self.__dict__",
        REMEMBERED,
    ),
    (
        "guidance: both halves have the condition", GUIDED,
        "[condition, condition.null()]", "[condition, condition]",
        "tests/guidance/test_classifier_free.py", REMEMBERED,
    ),
]  # fmt: skip
