"""A solver's walk handed out one network pass at a time."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

Ask = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Question:
    """What the walk wants to know: the network's answer at (x, t)."""

    x: Tensor
    t: Tensor


class _Closed(BaseException):
    """Ends the walk's thread where nobody will answer any more."""


class _Channel:
    """Both directions between the two sides, only one of which ever runs."""

    def __init__(self) -> None:
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.questions: SimpleQueue[Any] = SimpleQueue()

    def ask(self, x: Tensor, t: Tensor) -> Any:
        self.questions.put(Question(x, t))
        return self._next()

    def _next(self) -> Any:
        answer = self.answers.get()
        if answer is _Closed:
            raise _Closed
        value, grad = answer
        torch.set_grad_enabled(grad)
        return value

    def close(self) -> None:
        self.answers.put(_Closed)


def _run(channel: _Channel, body: Callable[[Ask], Tensor], inference: bool) -> None:
    result: Any
    try:
        with torch.inference_mode(inference):
            channel._next()
            result = body(channel.ask)
    except _Closed:
        return
    except BaseException as error:
        result = error
    channel.questions.put(result)


class Handshake:
    """`body(ask)` run as a coroutine: each `ask(x, t)` waits for the next `answer(…)`.

    The body runs in a thread of its own, which moves only while `answer` waits for it, so that
    nothing happens at once and results do not depend on timing. It works in the caller's grad and
    inference mode, ends with the Handshake (closed or garbage collected), and what it raises is
    raised by `answer`.
    """

    def __init__(self, body: Callable[[Ask], Tensor]) -> None:
        self._channel = _Channel()
        self.running = True
        inference = torch.is_inference_mode_enabled()
        self._thread = threading.Thread(
            target=_run, args=(self._channel, body, inference), daemon=True, name="unnoise walk"
        )
        self._thread.start()
        self.close = weakref.finalize(self, self._channel.close)

    def answer(self, value: Any = None) -> Question | Tensor:
        """Let the body go on with `value` (None to start it): its next question, or its result."""
        self._channel.answers.put((value, torch.is_grad_enabled()))
        prediction = self._channel.questions.get()
        if not isinstance(prediction, Question):
            self.running = False
        if isinstance(prediction, BaseException):
            raise prediction
        return prediction
