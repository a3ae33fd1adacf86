"""Bugs in conditions by name: masks, dropout, standardising, guidance, rules of a stream."""

from __future__ import annotations

from dataclasses import replace

from unnoise.data.conditions import VectorCondition
from unnoise.fields import Condition

from .planting import module, mutation

CONDITION, DROPOUT = "tests/fields/test_condition.py", "tests/objectives/test_dropout.py"
COMPOSED, COLUMNS = "tests/guidance/test_composed.py", "tests/data/test_columns.py"
RULES = "tests/sampling/test_conditions.py"

dropout, conditions = module("objectives.dropout"), module("sampling.conditions")


@mutation(
    "condition: the null of one name is that of all",
    f"{CONDITION}::test_each_name_has_a_mask_of_its_own",
)
def _(patch):
    patch.around(Condition, "null", lambda right: lambda self, name=None: right(self))


@mutation(
    "dropout: all names are dropped together",
    f"{DROPOUT}::test_names_are_dropped_with_their_own_shares_and_independently",
)
def _(patch):
    def wrong(right):
        def drop(condition, shares, noise):
            return right(condition, max(shares.values()), noise)

        return drop

    patch.around(dropout, "drop_some", wrong)


@mutation(
    "guidance by name: each is given with all the others",
    f"{COMPOSED}::test_each_likelihood_enters_with_its_own_scale",
    f"{COMPOSED}::test_scales_of_one_give_the_exact_joint_conditional",
)
def _(patch):
    patch.attribute(Condition, "only", lambda self, name: self)


@mutation(
    "vector: the mean is not taken off",
    f"{COLUMNS}::test_columns_of_every_kind_of_file_are_read_right",
    f"{RULES}::test_rules_of_what_is_given_and_what_is_not",
)
def _(patch):
    patch.around(
        VectorCondition, "prepare",
        lambda right: lambda self, values: right(replace(self, mean=(0.0,) * self.width), values),
    )  # fmt: skip


@mutation(
    "stream: class conditions cycle in step",
    f"{RULES}::test_rules_of_what_is_given_and_what_is_not",
)
def _(patch):
    patch.around(
        conditions.Labels,
        "of",
        lambda right: lambda self, rows: right(replace(self, every=1), rows),
    )


@mutation(
    "stream: a vector one a sample is counted from sample 0",
    f"{RULES}::test_rules_of_what_is_given_and_what_is_not",
)
def _(patch):
    patch.around(
        conditions.Vectors,
        "of",
        lambda right: lambda self, rows: right(replace(self, offset=0), rows),
    )
