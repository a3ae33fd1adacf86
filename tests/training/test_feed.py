"""Data workers: the same batches, made elsewhere."""

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.training.tiny import (
    assert_same,
    check_resume,
    everything,
    parts_of,
    run_steps,
    tiny,
    training_of,
)
from unnoise.errors import DataError
from unnoise.training import Checkpoints, Interrupted, train
from unnoise.training.feed import Feed, worker_deaths
from unnoise.training.folder import held

SMALL = ["train.steps=9", "train.batch=64", "train.accumulate=2"]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    alone, helped = training_of(tiny(*SMALL)), training_of(tiny(*SMALL, f"train.workers={workers}"))
    assert run_steps(alone, 9) == run_steps(helped, 9)
    assert_same(everything(alone), everything(helped))


@pytest.mark.parametrize("workers", [1, 2])
def test_resuming_with_workers_is_the_uninterrupted_run(workers, tmp_path):
    # 64 of 1,597 a step: the 25th step reaches over the end of an epoch
    recipe = tiny("train.steps=28", "train.batch=64", "train.accumulate=2", "network.widths=[8]")
    helped = recipe.train.model_copy(update={"workers": workers})
    made = iter([0, 1, 1, 0])  # by turns without: the straight run first

    def make():
        config = helped if next(made) else recipe.train
        return training_of(recipe.model_copy(update={"train": config}))

    check_resume(make, tmp_path, 28, 11, 24)


def test_batches_are_made_in_other_processes_and_ahead(tmp_path):
    class Telling:
        """Data that say which process made them."""

        def order(self, seed, counter, size):
            return torch.arange(counter, counter + size)

        def batch(self, rows):
            part = tmp_path / f".{int(rows[0])}"  # nobody sees it half written
            part.write_text(str(os.getpid()))
            part.rename(tmp_path / str(int(rows[0])))
            return rows.float(), None

    feed = Feed(Telling(), 0, 4, 8, workers=2)
    feed.seek(16)
    seen = [feed.take(counter, 4)[0].tolist() for counter in (16, 24, 32)]
    assert seen == [[16, 17, 18, 19], [24, 25, 26, 27], [32, 33, 34, 35]]
    makers = {p.read_text() for p in tmp_path.iterdir() if p.name[0] != "."}
    assert len(makers) == 2
    assert str(os.getpid()) not in makers
    assert (tmp_path / "40").exists()  # nobody has asked for it
    assert feed.take(5, 2)[0].tolist() == [5, 6]  # elsewhere: made here
    assert (tmp_path / "5").read_text() == str(os.getpid())
    assert feed.take(40, 4)[0].tolist() == [40, 41, 42, 43]  # and the rest goes on
    feed.seek(0)
    assert feed.take(0, 4)[0].tolist() == [0, 1, 2, 3]
    assert (tmp_path / "0").read_text() != str(os.getpid())
    feed.close()


def test_data_can_be_sent_to_workers():
    data = parts_of(tiny())["train"]
    sent = pickle.loads(pickle.dumps(data))
    rows = data.order(3, 1590, 20)
    assert torch.equal(sent.order(3, 1590, 20), rows)
    ours, wanted = sent.batch(rows), data.batch(rows)
    assert torch.equal(ours.x0, wanted.x0)
    assert torch.equal(ours.condition.values["class"], wanted.condition.values["class"])


def test_workers_draw_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    run_steps(training_of(tiny("train.workers=1")), 2)
    assert torch.equal(torch.get_rng_state(), before)


class Failing:
    def __init__(self, how):
        self.how = how

    def order(self, seed, counter, size):
        return torch.arange(counter, counter + size)

    def batch(self, rows):
        if int(rows[0]) < 8:
            return rows.float(), None
        if self.how == "error":
            raise DataError(f"sample {int(rows[0])} is damaged")
        os.kill(os.getpid(), signal.SIGKILL)


def test_an_error_in_a_worker_is_the_error_of_the_run():
    feed = Feed(Failing("error"), 0, 4, 4, workers=1)
    feed.seek(0)
    assert [feed.take(c, 4)[0][0].item() for c in (0, 4)] == [0, 4]
    with pytest.raises(DataError, match=r"^sample 8 is damaged$"):
        feed.take(8, 4)
    feed.close()


def with_a_killed_worker(told):
    feed = Feed(Failing("killed"), 0, 4, 4, workers=1)
    try:
        with worker_deaths():  # torch says so in the middle of anything
            feed.seek(0)
            for counter in (0, 4, 8):
                feed.take(counter, 4)
    except DataError as error:
        told.write_text(str(error))
    os._exit(0)


def test_a_worker_that_is_killed_is_said(tmp_path):
    context = multiprocessing.get_context("fork")
    run = context.Process(target=with_a_killed_worker, args=(tmp_path / "said",))
    run.start()
    run.join(60)
    assert "a data worker has died" in (tmp_path / "said").read_text()
    assert "train.workers" in (tmp_path / "said").read_text()


def never_closed():
    feed = Feed(Failing("error"), 0, 4, 4, workers=2)
    feed.seek(0)
    feed.take(0, 4)
    never_closed.feed = feed  # as a traceback would hold it


def test_workers_end_with_the_process_though_nobody_closed_them():
    run = multiprocessing.get_context("fork").Process(target=never_closed)
    run.start()
    run.join(30)
    ended = run.exitcode
    run.kill()
    assert ended == 0


def group_of(leader):
    """The processes of a group that are alive, by their number."""
    found = []
    for name in os.listdir("/proc"):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(name))
    return found


def led(recipe, out):
    os.setsid()
    try:
        train(recipe, out, quiet=True, tensorboard=False)
    except Interrupted:
        os._exit(130)
    os._exit(0)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_signal_to_the_whole_group_leaves_no_worker_behind(kind, tmp_path):
    recipe = tiny("train.steps=4000", "train.batch=4", "network.widths=[8]", "train.workers=2")
    run = multiprocessing.get_context("fork").Process(target=led, args=(recipe, tmp_path / "run"))
    run.start()
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and '"train"' in log.read_text()):
        assert run.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(group_of(run.pid)) == 3
    if kind == "SIGKILL":
        run.kill()  # the workers see that they are alone, and hold the lock until then
        with held(tmp_path / "run"):  # nothing keeps the next run from going on
            pass
    else:
        os.killpg(run.pid, getattr(signal, kind))
    run.join(60)
    while left := group_of(run.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    if kind == "SIGKILL":
        assert run.exitcode == -signal.SIGKILL
    else:
        assert run.exitcode == 130
        assert 0 < Checkpoints(tmp_path / "run").load()[0]["step"] < 4000
