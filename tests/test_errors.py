"""Messages name the value, what is allowed and the nearest known name."""

import pytest

from unnoise import errors
from unnoise.errors import InvalidArgument, RecipeError, UnnoiseError, nearest, need_count, unknown


def test_one_family():
    kinds = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    names = {kind.__name__ for kind in kinds}
    assert names == {
        "UnnoiseError", "InvalidArgument", "Unsupported", "DataError", "ArtifactError",
        "RecipeError", "NonFinite", "OutOfMemory",
    }  # fmt: skip
    assert all(issubclass(kind, UnnoiseError) for kind in kinds)
    assert issubclass(InvalidArgument, ValueError)
    assert issubclass(errors.Unsupported, ValueError)
    assert issubclass(errors.NonFinite, ArithmeticError)
    assert issubclass(errors.OutOfMemory, MemoryError)


def test_unknown_names_suggest_the_nearest():
    error = unknown("solver", "dpmp_2m", ["heun", "dpmpp_2m", "ddim"])
    assert isinstance(error, InvalidArgument)
    assert str(error) == (
        "unknown solver 'dpmp_2m'; did you mean 'dpmpp_2m'? known: ddim, dpmpp_2m, heun"
    )
    error = unknown("solver", "zzzz", ["heun", "ddim"], RecipeError)
    assert isinstance(error, RecipeError)
    assert str(error) == "unknown solver 'zzzz'; known: ddim, heun"
    assert str(unknown("step", 3, iter([1, 2]))) == "unknown step 3; known: 1, 2"


def test_nearest():
    assert nearest("epsilon", ["eps", "x0", "v"]) is not None
    assert nearest("qqqq", ["eps", "x0", "v"]) is None


def test_counts():
    assert need_count("n", 3) == 3
    assert need_count("n", 0, least=0) == 0
    for bad in (0, -5, 2.0, "3", None, True, float("nan")):
        with pytest.raises(InvalidArgument, match=f"steps is {bad!r}; give a whole number"):
            need_count("steps", bad)
    with pytest.raises(InvalidArgument, match="at least 4"):
        need_count("batch", 3, least=4)
