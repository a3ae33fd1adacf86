"""The state of a training: everything that a resumed run needs, beside its recipe and data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ArtifactError, DataError, UnnoiseError
from ..safe_files.files import check_tensors

if TYPE_CHECKING:
    from .loop import Training


def state_of(training: Training) -> dict[str, Any]:
    """Everything a resumed run needs, beside its recipe and data."""
    return {
        "step": training.step,
        "seen": training.seen,
        "elapsed": training.elapsed,
        "ema_updates": training.ema.updates,
        "data": training.fingerprint,
        "weights": training.model.network.state_dict(),
        "ema": {str(i): a for i, a in enumerate(training.ema.averages)},
        "optimizers": training.optimizers.state_dict(),
        "objective": training.objective.state(),
        "guard": training.guard.state(),
        "averages": {
            f"{j}.{i}": a
            for j, kept in enumerate(training.averages)
            for i, a in enumerate(kept.averages)
        },
        "part": training.parts.most,
    }


def restore(training: Training, state: dict[str, Any]) -> None:
    """Go on where `state()` was taken; raises DataError where the data have changed since."""
    if state["data"] != training.fingerprint:
        raise DataError(
            f"the training data have changed: fingerprint {training.fingerprint[:16]}…, the run "
            f"was on {str(state['data'])[:16]}…; bring the data back, or start a new run"
        )
    check_tensors(training.model.network, state["weights"], "the checkpoint's weights")
    try:
        _fill(training, state)
    except UnnoiseError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ArtifactError(
            f"the checkpoint is not one of this run, or is damaged ({error!r:.200}); start a "
            "new run"
        ) from error


def _fill(training: Training, state: dict[str, Any]) -> None:
    training.step, training.seen = int(state["step"]), int(state["seen"])
    training.elapsed, training.ema.updates = float(state["elapsed"]), int(state["ema_updates"])
    training.model.network.load_state_dict(state["weights"])
    for i, average in enumerate(training.ema.averages):
        average.copy_(state["ema"][str(i)])
    for j, kept in enumerate(training.averages):
        kept.updates = training.ema.updates
        for i, average in enumerate(kept.averages):
            average.copy_(state["averages"][f"{j}.{i}"])
    training.parts.load(state.get("part"))
    training.optimizers.load_state_dict(state["optimizers"])
    training.guard.load_state(state.get("guard", {}))
    training.objective.load_state(state.get("objective", {}))
