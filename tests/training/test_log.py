import json

import pytest
import torch

from unnoise.errors import ArtifactError
from unnoise.training.log import ByLevel, Log, read_log


def test_the_mean_loss_of_each_level():
    levels = ByLevel(4)
    levels.add(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0.1, 0.2, 0.8]))
    levels.add(torch.tensor([7.0, 9.0]), torch.tensor([1.0, 0.0]))
    assert levels.read() == [pytest.approx(13 / 3), None, None, 6.0]
    assert levels.read() == [None] * 4  # starts anew


def test_lines_are_strict_json_whatever_the_numbers(tmp_path):
    with Log(tmp_path, resumed_at=None, tensorboard=False) as log:
        values = {"loss": float("nan"), "t": torch.tensor([1.0, float("inf")]), "by": [None, 2]}
        log.write("train", 3, **values)
    with Log(tmp_path, resumed_at=3, tensorboard=False) as log:
        log.write("end", 4)
    rows = [
        json.loads(line, parse_constant=pytest.fail)
        for line in (tmp_path / "log.jsonl").read_text().splitlines()
    ]
    assert [(r["kind"], r["step"]) for r in rows] == [("train", 3), ("end", 4)]
    assert (rows[0]["loss"], rows[0]["t"], rows[0]["by"]) == ("nan", [1.0, "inf"], [None, 2])


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with Log(tmp_path, resumed_at=None, tensorboard=False) as log:
        log.write("train", 1)
        assert (tmp_path / "log.jsonl").read_text().count("\n") == 1


def test_progress_is_plain_lines_without_a_terminal_and_nothing_when_quiet(tmp_path, capsys):
    for quiet in (False, True):
        with Log(tmp_path, resumed_at=None, quiet=quiet, tensorboard=False) as log:
            for k in range(100):
                log.progress(k / 100, f"update {k}")
            log.progress(1.0, "done")
            log.say("a word")
        error = capsys.readouterr().err
        assert error.splitlines() == ([] if quiet else ["  0%  update 0", "100%  done", "a word"])
        assert "\r" not in error


def test_scalars_and_levels_reach_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Log(tmp_path, resumed_at=None) as log:
        log.write("train", 5, loss=0.25, broken=float("nan"))
        log.write("levels", 5, loss_by_level=[1.0, None])
        log.picture("samples", torch.zeros(3, 4, 4, dtype=torch.uint8), 5)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {"train/loss", "levels/loss_by_level/t 0.0-0.5"}
    assert tags["images"] == ["samples"]
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(5, 0.25)]


HALF = '{"kind": "train", "step": 7, "lo'


def test_a_last_line_cut_short_by_a_kill_is_left_out_and_mended(tmp_path):
    with Log(tmp_path, resumed_at=None, tensorboard=False) as log:
        log.write("train", 5, loss=1.0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(HALF)
    assert [row["step"] for row in read_log(tmp_path)] == [5]
    with Log(tmp_path, resumed_at=5, tensorboard=False) as log:
        log.write("resumed", 5)
    text = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in text] == ["train", "resumed"]


@pytest.mark.parametrize("content", ["", HALF])
def test_a_log_without_a_whole_line_can_be_gone_on_with(content, tmp_path):
    (tmp_path / "log.jsonl").write_text(content)
    with Log(tmp_path, resumed_at=3, tensorboard=False) as log:
        log.write("resumed", 3)
    assert [row["kind"] for row in read_log(tmp_path)] == ["resumed"]


def test_lines_that_were_done_again_are_left_out_unless_asked_for(tmp_path):
    told = [("start", 0), ("train", 20), ("train", 40), ("train", 60), ("resumed", 40),
            ("train", 50), ("rollback", 50), ("train", 30), ("train", 45), ("resumed", 30),
            ("train", 60), ("end", 60)]  # fmt: skip
    with Log(tmp_path, resumed_at=None, tensorboard=False) as log:
        for kind, step in told:
            log.write(kind, step)
    assert [(r["kind"], r["step"]) for r in read_log(tmp_path, superseded=True)] == told
    # the rollback came before the checkpoint of update 30 and stays
    left = [*told[:3], *told[4:8], *told[9:]]
    assert [(r["kind"], r["step"]) for r in read_log(tmp_path)] == left


def test_a_log_that_cannot_be_written_or_read_is_said(tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_log(tmp_path)
    log = Log(tmp_path, resumed_at=None, tensorboard=False)
    log.file.close()
    log.file = open("/dev/full", "w")  # noqa: SIM115
    with pytest.raises(ArtifactError, match=r"No space left.*untouched.*--resume"):
        log.write("train", 1)
    log.__exit__(None, None, None)  # what is still to be written is lost, and nothing is raised


def test_a_process_that_does_not_write_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with Log(None, resumed_at=None) as log:
        log.write("train", 1, loss=0.5)
        log.say("a word")
        log.progress(1.0, "done")
    assert list(tmp_path.rglob("*")) == []
    assert capsys.readouterr().err == ""


def test_tensorboard_shows_what_was_done_again_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resumed_at, steps in ((None, (1, 2, 3)), (2, (3, 4))):
        with Log(tmp_path, resumed_at=resumed_at) as log:
            for step in steps:
                log.write("train", step, loss=float(step))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3, 4]


def test_lines_of_other_shape_are_left_out(tmp_path):
    odd = ['{"kind": "train", "step": "x"}', '{"kind": "train", "step": null}', "[1]", "3", "{}"]
    good = ['{"kind": "train", "step": 2}', '{"kind": "resumed", "step": 1}']
    (tmp_path / "log.jsonl").write_text("\n".join([*odd, good[0], *odd, good[1]]) + "\n")
    assert read_log(tmp_path) == [{"kind": "resumed", "step": 1}]
