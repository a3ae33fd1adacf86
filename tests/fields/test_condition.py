"""Conditions as trees of tensors, and binding them to fields."""

import pytest
import torch

from tests.exact import F64, mixture_2d
from unnoise.errors import InvalidArgument
from unnoise.fields import Condition, Field
from unnoise.paths import Flow


def tree():
    return {"class": torch.tensor([1, 2, 3]), "text": {"tokens": torch.arange(6.0).reshape(3, 2)}}


def test_one_value_is_meant_for_every_sample():
    for given in (7, [7], torch.tensor(7), torch.tensor([7])):
        for batch in (1, 4):
            condition = Condition.of({"class": given}, batch)
            assert condition.values["class"].tolist() == [7] * batch
            assert condition.keep["class"].tolist() == [True] * batch
    row = Condition.of({"text": torch.tensor([[1.0, 2.0]])}, 3).values["text"]
    assert row.tolist() == [[1.0, 2.0]] * 3


def test_one_value_per_sample_and_nested_trees():
    condition = Condition.of({"class": [1, 2, 3], "deep": {"er": {"x": tree()["class"]}}}, 3)
    assert condition.values["class"].tolist() == [1, 2, 3]
    assert condition.values["deep"]["er"]["x"].tolist() == [1, 2, 3]
    assert Condition.of(condition, 3) is condition
    assert len(condition) == 3


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidArgument, match="condition class has 2 rows for 3 samples"):
        Condition.of({"class": [1, 2]}, 3)
    with pytest.raises(InvalidArgument, match=r"condition text\.tokens has 3 rows for 4 samples"):
        Condition.of(tree() | {"class": 1}, 4)
    with pytest.raises(InvalidArgument, match="condition class is 'seven'; give numbers"):
        Condition.of({"class": "seven"}, 2)
    with pytest.raises(InvalidArgument, match="for 3 samples, with a batch of 4"):
        Condition.of(Condition.of(tree(), 3), 4)


def test_selecting_dropping_and_joining():
    condition = Condition.of(tree(), 3)
    some = condition[torch.tensor([2, 0])]
    assert some.values["class"].tolist() == [3, 1]
    assert some.values["text"]["tokens"].tolist() == [[4, 5], [0, 1]]
    assert condition[1:].values["class"].tolist() == [2, 3]
    dropped = condition.drop(torch.tensor([False, True, False]))
    assert dropped.keep["class"].tolist() == [True, False, True]
    again = dropped.drop(torch.tensor([True, False, False]))
    assert again.keep["class"].tolist() == [False, False, True]
    assert dropped[torch.tensor([1, 2])].keep["class"].tolist() == [False, True]
    assert condition.keep["class"].tolist() == [True] * 3
    assert condition.null().keep["class"].tolist() == [False] * 3
    assert condition.null().values["class"].tolist() == [1, 2, 3]
    both = Condition.cat([dropped, condition.null()])
    assert both.keep["class"].tolist() == [True, False, True, False, False, False]
    assert both.values["text"]["tokens"].shape == (6, 2)
    assert both.values["class"].tolist() == [1, 2, 3, 1, 2, 3]
    assert both.to("meta").values["text"]["tokens"].device.type == "meta"
    assert both.to("meta").keep["class"].device.type == "meta"


def test_joining_different_trees_is_refused():
    first = Condition.of(tree(), 3)
    for other in ({"class": 1}, {"class": 1, "text": {"words": 2}}, {"class": 1, "text": 2}):
        with pytest.raises(InvalidArgument, match="different names"):
            Condition.cat([first, Condition.of(other, 3)])


class Told(Field):
    """Remembers the condition it was given."""

    def __init__(self):
        self.field, self.path = mixture_2d(Flow()), Flow()

    def __call__(self, x_t, t, condition=None):
        self.seen = condition
        return self.field(x_t, t)


def test_a_bound_condition_reaches_the_field_and_no_other_does():
    field, x, t = Told(), torch.zeros(3, 2, dtype=F64), torch.tensor(0.5, dtype=F64)
    condition = Condition.of(tree(), 3)
    bound = field.conditioned(condition)
    assert bound.path == field.path
    said = bound(x, t)
    assert field.seen is condition
    assert torch.equal(said.value, field.field(x, t).value)
    with pytest.raises(InvalidArgument, match="bound already"):
        bound(x, t, condition)
    with pytest.raises(InvalidArgument, match="bound already"):
        bound.conditioned(condition)(x, t)


def two():
    values = {"class": torch.tensor([1, 2, 3]), "age": torch.tensor([[0.5], [1.5], [2.5]])}
    return Condition(
        values,
        {"class": torch.tensor([True, True, False]), "age": torch.tensor([True, False, True])},
    )


def kept(condition):
    return {name: mask.tolist() for name, mask in condition.keep.items()}


def test_each_name_has_a_mask_of_its_own():
    condition = two()
    assert kept(condition.null("age")) == {"class": [True, True, False], "age": [False] * 3}
    assert kept(condition.null()) == {"class": [False] * 3, "age": [False] * 3}
    assert kept(condition.only("age")) == {"class": [False] * 3, "age": [True, False, True]}
    some = condition.drop({"age": torch.tensor([True, False, False])})
    assert kept(some) == {"class": [True, True, False], "age": [False, False, True]}
    every = condition.drop(torch.tensor([True, False, False]))
    assert kept(every) == {"class": [False, True, False], "age": [False, False, True]}
    rows = condition[torch.tensor([2, 0])]
    assert kept(rows) == {"class": [False, True], "age": [True, True]}
    assert rows.values["age"].tolist() == [[2.5], [0.5]]
    both = Condition.cat([condition.null("class"), rows])
    assert kept(both) == {
        "class": [False, False, False, False, True], "age": [True, False, True, True, True],
    }  # fmt: skip
    assert both.values["class"].tolist() == [1, 2, 3, 3, 1]
    assert kept(condition) == kept(two())  # nothing above changed it
    assert {mask.device.type for mask in both.to("meta").keep.values()} == {"meta"}
    assert len(both) == 5
    assert [leaf.shape for leaf in both.leaves("age")] == [(5, 1)]


def test_names_that_are_not_there_and_masks_that_do_not_fit_are_refused():
    for wrong in (
        lambda c: c.null("agee"), lambda c: c.only("agee"),
        lambda c: c.drop({"agee": torch.ones(3, dtype=torch.bool)}),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match="did you mean 'age'"):
            wrong(two())
    with pytest.raises(InvalidArgument, match="give one mask for each name"):
        Condition(two().values, {"class": torch.ones(3, dtype=torch.bool)})
