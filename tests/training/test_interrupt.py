import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from tests.training.tiny import tiny
from unnoise.recipes import dump
from unnoise.training import Checkpoints, Interrupted, train
from unnoise.training import run as run_room

STEPS = 250


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The recipe, and the model it makes when left alone."""
    out = tmp_path_factory.mktemp("straight") / "run"
    recipe = tiny(f"train.steps={STEPS}", "train.batch=4", "network.widths=[8]")
    train(recipe, out, quiet=True, tensorboard=False)
    return recipe, (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_resuming_ends_the_same(uninterrupted, tmp_path, kind):
    recipe, expected = uninterrupted
    (tmp_path / "r.yaml").write_text(dump(recipe))
    command = [sys.executable, "-m", "unnoise", "train", "r.yaml", "--out", "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    log = tmp_path / "run" / "log.jsonl"
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while not (log.exists() and '"train"' in log.read_text()):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(kind)
        out, error = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == 130, error
    assert "interrupted after update" in error
    assert "unnoise train --resume --out run" in error
    assert "Traceback" not in error + out
    assert not (tmp_path / "run" / "model.json").exists()
    step = Checkpoints(tmp_path / "run").load()[0]["step"]
    assert 0 < step < STEPS
    train(recipe, tmp_path / "run", resume=True, quiet=True, tensorboard=False)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == expected


def test_interrupted_after_every_few_updates_it_still_ends_the_same(tmp_path, monkeypatch):
    recipe = tiny("train.steps=9", "train.accumulate=2")
    straight = train(recipe, tmp_path / "a", quiet=True, tensorboard=False)
    updates = run_room.Training.updates

    def short(self):
        for count, update in enumerate(updates(self), 1):
            if count == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield update

    monkeypatch.setattr(run_room.Training, "updates", short)
    handler = signal.getsignal(signal.SIGINT)
    pauses = []
    while True:
        try:
            train(recipe, tmp_path / "b", resume=True, quiet=True, tensorboard=False)
            break
        except Interrupted as stop:
            pauses.append(str(stop))
    assert signal.getsignal(signal.SIGINT) is handler
    assert [p.split(";")[0] for p in pauses] == [
        f"interrupted after update {k}" for k in (2, 4, 6, 8)
    ]
    a, b = (load_file(tmp_path / n / "model.safetensors") for n in "ab")
    assert all((a[k] == b[k]).all() for k in a)
    assert straight.training["updates"] == 9


def test_outside_the_main_thread_the_callers_handlers_stay(tmp_path):
    import threading

    made = []
    handler = signal.getsignal(signal.SIGINT)

    def work():
        made.append(train(tiny(), tmp_path / "a", quiet=True, tensorboard=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert made[0].training["updates"] == 4
    assert signal.getsignal(signal.SIGINT) is handler
