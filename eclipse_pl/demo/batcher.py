"""Batcher: requests of many threads, answered together."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

from eclipse_pl.demo.answer import Answer
from eclipse_pl.demo.model import DemoModel
from eclipse_pl.demo.request import Request


@dataclass(frozen=True, eq=False)
class Asked:
    """What one thread waits for."""

    requests: Sequence[Request]
    answers: Future[list[Answer]] = field(default_factory=Future)


class Batcher:
    """Those who wait while the model works become its next batch. Nobody waits for a batch to fill.

    gradio's own batches are not used: in them one call that fails takes the others with it.

    Args:
        model: Answers the requests.
        most: Images that are made together, but for a single call that asks for more.
    """

    def __init__(self, model: DemoModel, most: int) -> None:
        self.model, self.most = model, most
        self._waiting: deque[Asked] = deque()
        self._lock, self._closed = Lock(), False
        # always the same thread: each that calls torch keeps memory of its own
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="demo")

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the answers in order, after those who came before.

        Raises:
            ValueError: A request is not valid. It is refused before it waits, and costs the others nothing.
                Or the demo has ended.
        """
        for request in requests:
            self.model.require(request)
        own = Asked(requests)
        with self._lock:
            if self._closed:
                raise _ended()
            self._waiting.append(own)
            self._worker.submit(self._work)
        return own.answers.result()

    def close(self) -> None:
        """Answer nobody after the batch that is being made. Python would first work off all that waits, and then end."""
        with self._lock:
            self._closed = True
            self._worker.shutdown(wait=False, cancel_futures=True)
            while self._waiting:
                self._waiting.popleft().answers.set_exception(_ended())

    def _work(self) -> None:
        with self._lock:
            batch = self._next() if self._waiting else []  # else an earlier batch has taken them
        if batch:
            self._answer(batch)

    def _next(self) -> list[Asked]:
        batch = [self._waiting.popleft()]
        count = len(batch[0].requests)
        while self._waiting and count + len(self._waiting[0].requests) <= self.most:
            batch.append(self._waiting.popleft())
            count += len(batch[-1].requests)
        return batch

    def _answer(self, batch: list[Asked]) -> None:
        try:
            answers = iter(self.model.generate([request for one in batch for request in one.requests]))
        except Exception as error:
            if len(batch) == 1:
                batch[0].answers.set_exception(error)
                return
            for one in batch:  # the others are answered all the same
                self._answer([one])
            return
        for one in batch:
            one.answers.set_result([next(answers) for _ in one.requests])


def _ended() -> ValueError:
    return ValueError("The demo has ended.")
