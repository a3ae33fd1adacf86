"""Cache, resume, verdicts, reports: on claims made up here, which count how often they run."""

import json
import math
from functools import cache
from types import FunctionType

import pytest

from claims import (
    CHAPTERS,
    Claim,
    Finding,
    Interval,
    chosen,
    known,
    markdown,
    run,
    runner,
    write,
)
from claims import registry as registry_module
from claims.registry import fingerprint
from claims.report import show
from unnoise.errors import InvalidArgument

runs: list[str] = []
FACTOR = 2.0
TABLE = {"a": lambda x: x}


@cache
def kept():
    return FACTOR


def helper():
    return FACTOR


def good():
    runs.append("good")
    return Finding({"a": 0.5, "b": Interval(1.0, 0.9, 1.1), "c": math.inf, "d": "words"}, "holds")


def conditional():
    runs.append("conditional")
    return Finding({"n": helper()}, "holds when", "n is small", "It is | not always so.")


def through_a_cache():
    return Finding({"n": kept(), "t": TABLE["a"](1)}, "holds")


def broken():
    runs.append("broken")
    raise InvalidArgument("no such luck")


def made(measure, chapter="schedules"):
    return Claim(measure.__name__, chapter, "a paper", "It is so.", measure)


@pytest.fixture(autouse=True)
def clean():
    runs.clear()


def test_a_finished_claim_is_not_measured_again(tmp_path):
    claims, said = [made(good), made(conditional)], []
    first = run(claims, tmp_path, say=said.append)
    again = run(claims, tmp_path, say=said.append)
    assert runs == ["good", "conditional"]
    assert first == again
    assert [r.again for r in again] == [True, True]
    assert said[0].startswith("[1/2] good ")
    assert "holds when n is small" in said[1]
    assert "kept from" in said[2]
    run(claims, tmp_path, fresh=True, say=said.append)
    assert runs == ["good", "conditional"] * 2


def test_an_interrupted_run_goes_on(tmp_path):
    claims = [made(good), made(broken), made(conditional)]
    with pytest.raises(InvalidArgument, match="claim broken: no such luck"):
        run(claims, tmp_path, say=lambda _: None)
    assert runs == ["good", "broken"]
    run([claims[0], claims[2]], tmp_path, say=lambda _: None)
    assert runs == ["good", "broken", "conditional"]


@pytest.mark.parametrize("damage", ["", "{", '{"name": 1}', '{"seconds": NaN}'])
def test_a_damaged_cache_is_measured_again(tmp_path, damage):
    run([made(good)], tmp_path, say=lambda _: None)
    (tmp_path / "good.json").write_text(damage)
    run([made(good)], tmp_path, say=lambda _: None)
    assert runs == ["good", "good"]


def test_changed_code_is_measured_again(tmp_path, monkeypatch):
    claims, quiet = [made(good), made(conditional)], lambda _: None
    run(claims, tmp_path, say=quiet)
    # a constant that a helper of the claim uses
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    run(claims, tmp_path, say=quiet)
    assert runs == ["good", "conditional", "conditional"]
    # another library: again, unless told to keep
    monkeypatch.setattr(runner, "library", lambda: "another")
    run(claims, tmp_path, keep=True, say=quiet)
    assert len(runs) == 3
    run(claims, tmp_path, say=quiet)
    assert len(runs) == 5
    import unnoise

    monkeypatch.setattr(unnoise, "__version__", "9.9.9")
    run(claims, tmp_path, keep=True, say=quiet)
    assert len(runs) == 7


def test_the_fingerprint_looks_behind_a_cache(monkeypatch):
    first = fingerprint(through_a_cache)
    # where a function lies in memory is no part of its source
    again = FunctionType(TABLE["a"].__code__, globals())
    again.__qualname__ = TABLE["a"].__qualname__
    monkeypatch.setitem(globals(), "TABLE", {"a": again})
    assert fingerprint(through_a_cache) == first
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert fingerprint(through_a_cache) != first


def test_the_fingerprint_is_of_source_not_of_names():
    def one():
        return Finding({"a": 1.0}, "holds")

    first = fingerprint(one)

    def one():
        return Finding({"a": 2.0}, "holds")

    assert fingerprint(one) != first


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (({"a": 1}, "hold"), "did you mean 'holds'"),
        (({}, "holds"), "nothing measured"),
        (({"a": 1}, "holds when"), "what"),
        (({"a": 1}, "holds", "n is small"), "what"),
        (({"a": 1}, "does not hold"), "remark"),
        (({"a": math.nan}, "holds"), "NaN"),
        (({"a": Interval(1, math.nan, 2)}, "holds"), "NaN"),
    ],
)
def test_findings_are_checked(arguments, match):
    with pytest.raises(InvalidArgument, match=match):
        Finding(*arguments)


def test_claims_are_checked():
    with pytest.raises(InvalidArgument, match="did you mean 'schedules'"):
        made(good, "schedule")
    with pytest.raises(InvalidArgument, match="statement and a source"):
        Claim("x", "schedules", "", "It is so.", good)
    with pytest.raises(InvalidArgument, match="two claims"):
        registry_module.claim("schedules", "a", "b")(known()["one_pixel"].measure)


def test_names_and_chapters_choose():
    assert [c.name for c in chosen(["one_pixel"])] == ["one_pixel"]
    assert {c.chapter for c in chosen(["guidance"])} == {"guidance"}
    assert [c.name for c in chosen([])] == list(known())
    with pytest.raises(InvalidArgument, match="did you mean 'one_pixel'"):
        chosen(["one_pixl"])
    order = [c.chapter for c in chosen([])]
    assert order == sorted(order, key=list(CHAPTERS).index)


def test_the_report(tmp_path):
    results = run([made(good), made(conditional, "guidance")], tmp_path / "c", say=lambda _: None)
    write(results, tmp_path)
    text = (tmp_path / "claims.json").read_text()

    def refuse(word):
        raise AssertionError(word)

    tree = json.loads(text, parse_constant=refuse)
    assert [c["verdict"] for c in tree["claims"]] == ["holds", "holds when"]
    assert tree["claims"][0]["measured"] == {
        "a": 0.5, "b": {"value": 1.0, "low": 0.9, "high": 1.1}, "c": "inf", "d": "words",
    }  # fmt: skip
    assert set(tree["versions"]) == {"unnoise", "torch", "python", "library"}
    assert tree["seed"] == 0
    page = (tmp_path / "claims.md").read_text()
    assert "Of 2 claims 1 hold, 1 hold under a condition, 0 do not hold." in page
    rows = [line for line in page.splitlines() if line.startswith("| ✔") or line.startswith("| ◐")]
    assert len(rows) == 2
    assert "b: 1 [0.9, 1.1]" in rows[0]
    assert "c: ∞" in rows[0]
    assert "**holds when** n is small" in rows[1]
    assert "It is \\| not always so." in rows[1]
    assert page.index("## Noise schedules") < page.index("## Guidance")
    assert markdown([])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.897, "0.897"), (1.0, "1"), (0.0, "0"), (3.2e-13, "3.2e−13"), (-0.5, "−0.5"),
        (24777.4, "24777"), (1e6, "1.0e6"), (12.34567, "12.3"), (3, "3"), ("x", "x"),
        (0.0012345, "0.001234"), (-math.inf, "−∞"), (100.0, "100"),
    ],
)  # fmt: skip
def test_numbers_for_people(value, text):
    assert show(value) == text
