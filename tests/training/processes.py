"""Several processes on this machine, joined by gloo through a file: forked, so they start fast."""

import multiprocessing
import os
import time
import traceback
import uuid

import torch


def at_once(count, work, folder, *arguments):
    """What work(rank, folder, *arguments) returns in each of `count` joined processes.

    An exception comes back as (its type's name, its words).
    """
    context = multiprocessing.get_context("fork")
    folder.mkdir(parents=True, exist_ok=True)
    meet = folder / f"meet-{uuid.uuid4().hex}"
    children = [
        context.Process(target=_child, args=(rank, count, meet, work, folder, arguments))
        for rank in range(count)
    ]
    for child in children:
        child.start()
    try:
        for child in children:
            child.join(60)
            assert child.exitcode == 0, f"a process ended with {child.exitcode}"
    finally:
        for child in children:
            child.kill()
    return [torch.load(folder / f"said-{rank}.pt") for rank in range(count)]


def _child(rank, count, meet, work, folder, arguments):
    from accelerate.state import AcceleratorState, PartialState

    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)  # the parent's is of one process
    PartialState._reset_state()
    ranks = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {k: str(v) for k, v in ranks.items()} | {"MASTER_ADDR": "localhost"}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meet}", rank=rank, world_size=count
    )
    try:
        said = work(rank, folder, *arguments)
    except Exception as error:
        traceback.print_exc()
        said = (type(error).__name__, str(error))
    torch.save(said, folder / f"said-{rank}.pt")
    time.sleep(0.5)  # what is on its way to the others arrives
    os._exit(0)
