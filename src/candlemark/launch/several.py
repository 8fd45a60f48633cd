"""Several processes that train one model together, as `accelerate launch` starts them.

    accelerate launch $(which candlemark) fuse train --data-dir data/btc

The first process does all that a lone one does, in itself. The others take part in the training
of networks, which shares each batch, and in nothing else: they open no store and keep nothing.
Which trials come, the first tells the others, for it alone knows what is finished.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from candlemark import progress
from candlemark.benchmark.fusion.plan import FusionWork
from candlemark.errors import CandlemarkError
from candlemark.execution.base import Failure, FailureKind, Outcome


def started_several() -> bool:
    """Whether this process is one of several that a launcher started together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_follower() -> bool:
    """Whether another of them leads."""
    return started_several() and int(os.environ.get("RANK", "0")) > 0


class Leader:
    """An executor that runs trials in this process, the first of several.

    Close it, so that the others are not left waiting where there was nothing to run.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._told = False

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Each trial in turn; what candlemark refuses is a failure, all else ends every process."""
        works = list(items)
        self._tell([work.trial.id for work in works if work.trial.config["kind"] == "network"])
        for work in works:
            started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            start = time.monotonic()
            value, failure = None, None
            try:
                value = function(work)
            except CandlemarkError as error:
                failure = Failure(kind=FailureKind.REFUSED, reason=str(error))
            yield Outcome(
                item=work,
                value=value,
                failure=failure,
                started_at=started_at,
                duration_s=time.monotonic() - start,
            )

    def close(self) -> None:
        """Let the others go where nothing ran."""
        if not self._told:
            self._tell([])

    def _tell(self, trial_ids: list[str]) -> None:
        self._told = True
        _shared(trial_ids, self.device)


def follow(device: str, plan: Callable[[], Sequence[FusionWork]]) -> None:
    """Take part in the trainings that the first process announces.

    plan: the works of the study; asked for once the first has built its datasets
    """
    from candlemark.benchmark.fusion import task

    progress.set_reporter(progress.Silent())
    announced = _shared([], device)
    if not announced:
        return
    works = {work.trial.id: work for work in plan()}
    for trial_id in announced:
        try:
            task.train(works[trial_id])
        except CandlemarkError:
            # What is refused here is refused in every process, and the first one says so.
            continue


def _shared(trial_ids: list[str], device: str) -> list[str]:
    """What the first process gave, in each of them."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=device == "cpu")
    held = [trial_ids]
    broadcast_object_list(held)
    return held[0]
