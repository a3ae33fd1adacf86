import json

import pytest
import torch

from unnoise.training.log import ByLevel, Log


def test_the_mean_loss_of_each_level():
    levels = ByLevel(4)
    levels.add(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0.1, 0.2, 0.8]))
    levels.add(torch.tensor([7.0, 9.0]), torch.tensor([1.0, 0.0]))
    assert levels.read() == [pytest.approx(13 / 3), None, None, 6.0]
    assert levels.read() == [None] * 4  # starts anew


def test_lines_are_strict_json_whatever_the_numbers(tmp_path):
    with Log(tmp_path, append=False, tensorboard=False) as log:
        values = {"loss": float("nan"), "t": torch.tensor([1.0, float("inf")]), "by": [None, 2]}
        log.write("train", 3, **values)
    with Log(tmp_path, append=True, tensorboard=False) as log:
        log.write("end", 4)
    rows = [
        json.loads(line, parse_constant=pytest.fail)
        for line in (tmp_path / "log.jsonl").read_text().splitlines()
    ]
    assert [(r["kind"], r["step"]) for r in rows] == [("train", 3), ("end", 4)]
    assert (rows[0]["loss"], rows[0]["t"], rows[0]["by"]) == ("nan", [1.0, "inf"], [None, 2])


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with Log(tmp_path, append=False, tensorboard=False) as log:
        log.write("train", 1)
        assert (tmp_path / "log.jsonl").read_text().count("\n") == 1


def test_progress_is_plain_lines_without_a_terminal_and_nothing_when_quiet(tmp_path, capsys):
    for quiet in (False, True):
        with Log(tmp_path, append=False, quiet=quiet, tensorboard=False) as log:
            for k in range(100):
                log.progress(k / 100, f"update {k}")
            log.progress(1.0, "done")
            log.say("a word")
        error = capsys.readouterr().err
        assert error.splitlines() == ([] if quiet else ["  0%  update 0", "100%  done", "a word"])
        assert "\r" not in error


def test_scalars_and_levels_reach_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Log(tmp_path, append=False) as log:
        log.write("train", 5, loss=0.25, broken=float("nan"))
        log.write("levels", 5, loss_by_level=[1.0, None])
        log.picture("samples", torch.zeros(3, 4, 4, dtype=torch.uint8), 5)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {"train/loss", "levels/loss_by_level/t 0.0-0.5"}
    assert tags["images"] == ["samples"]
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(5, 0.25)]
