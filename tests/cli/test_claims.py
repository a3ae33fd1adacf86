"""`unnoise claims`."""

import json

from unnoise.claims import known


def test_list(run):
    said = run("claims", "--list")
    assert said.code == 0
    assert all(name in said.out for name in known())
    assert "one_pixel" not in run("claims", "guidance", "--list").out


def test_some_are_printed_and_kept(run, tmp_path):
    said = run("claims", "one_pixel", "sizes_of_pictures", "--cache", tmp_path / "kept")
    assert said.code == 0, said.err
    assert "[1/2] sizes_of_pictures" in said.out
    assert "x_t: 0.9192" in said.out
    assert not (tmp_path / "here/docs").exists()
    assert "kept from" in run("claims", "one_pixel", "--cache", tmp_path / "kept").out


def test_a_report_where_one_is_wanted(run, tmp_path):
    said = run("claims", "one_pixel", "--out", tmp_path / "r", "--cache", tmp_path / "c")
    assert said.code == 0, said.err
    tree = json.loads((tmp_path / "r/claims.json").read_text())
    assert [c["name"] for c in tree["claims"]] == ["one_pixel"]
    assert "# The claims" in (tmp_path / "r/claims.md").read_text()


def test_bad_words_are_refused(refused, tmp_path):
    assert "did you mean 'one_pixel'" in refused("claims", "one_pixls")
    assert "give one of them" in refused("claims", "one_pixel", "--fresh", "--keep")
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused("claims", "one_pixel", "--out", tmp_path / "file")
