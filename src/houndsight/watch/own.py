"""`with houndsight.profile():` around any training loop: where its time goes, what limits it, what to change."""

import logging
import os
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from houndsight.folders import JobFolder
from houndsight.records.profiling import run as runs
from houndsight.records.profiling.document import document
from houndsight.records.profiling.verdict import judge
from houndsight.records.timeline import LOOP
from houndsight.records.writer import RecordWriter
from houndsight.results import Verdict
from houndsight.watch import aside, study
from houndsight.watch.clock import LoopClock
from houndsight.watch.hooks import Hooks
from houndsight.watch.profiler import pauses
from houndsight.watch.sampler import Sampler
from houndsight.watch.seen import Seen
from houndsight.watch.window import AFTER, Window
from houndsight.workspace import Workspace, write_json

log = logging.getLogger("houndsight")

BASE = "SAGEMAKER_BASE_DIR"
"""The variable by which a script learns its job's folder."""


class Profile:
    """Watches the loop inside its `with` block; afterwards `verdict` and `document` say what was found.

    In a script that runs as a job it writes into that job, whose page and `profile.json` then know of its loop. Else
    into `folder`, or a new one below the workspace.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        interval: float = 0.5,
        window_after: float | None = AFTER,
        price_per_hour: float | None = None,
        instance_type: str | None = None,
    ) -> None:
        """`interval` of the sampler in seconds; `window_after` None opens no window of torch.profiler."""
        job = None if folder is not None else _job()
        self.folder = job.records if job else Path(folder) if folder is not None else _new_folder()
        self.document: dict[str, Any] = {}
        """What `profile.json` holds; empty before the block has ended."""
        self.verdict: Verdict | None = None
        """What limits the loop; None before the block has ended, or where it was too short to say."""
        self._own = self.folder / LOOP if job else self.folder
        self._in_job = job is not None
        self._interval, self._window_after = interval, window_after
        self._given = {"price_per_hour": price_per_hour, "instance_type": instance_type}
        self._stack = ExitStack()
        self._seen = Seen()
        self._began = 0.0

    def __enter__(self) -> Self:
        aside.ask()
        self._began = time.time()
        with ExitStack() as stack:  # what was begun ends also where something after it cannot begin
            self._records = stack.enter_context(RecordWriter(self._own))
            if not self._in_job:
                sampler = Sampler(self.folder, self._interval)
                stack.callback(sampler.stop)
            stack.enter_context(pauses(self._records))
            self._clock = LoopClock(self._records)
            stack.callback(self._clock.close)
            after = float("inf") if self._window_after is None else self._window_after
            self._window = Window(self._records, after)
            hooks = Hooks(self._clock, self._seen, on_step=self._stepped, waits=torch.cuda.is_available())
            stack.callback(hooks.detach)
            hooks.attach()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        ended = time.time()
        self._window.close()
        self._stack.close()
        facts = runs.Facts(**self._facts(ended, look=kind is None))
        write_json(self._own / runs.FACTS, facts)
        run = runs.read(self.folder)
        self.verdict, self.document = judge(run), document(run)
        if not self._in_job:
            write_json(self.folder / "profile.json", self.document)
        if self.verdict is not None:
            log.info("%s %s", self.verdict.message, self.verdict.change)

    def part(self, name: str) -> Any:
        """A context whose time goes into that part: data, copy, forward, backward, optimizer, checkpoint, evaluate."""
        return self._clock.part(name)

    def _stepped(self) -> None:
        self._window.step()

    def _facts(self, ended: float, *, look: bool) -> dict[str, Any]:
        facts = {"began": self._began, "ended": ended, **self._seen.facts(self._clock, self._window), **self._given}
        return facts | (self._studied() if look else {})

    def _studied(self) -> dict[str, Any]:
        """FLOPs, rate and probe, where the loop took a second or more: looking takes about as long."""
        found = self._seen.network()
        if found is None or self._seen.batch_size is None or time.time() - self._began < 1.0:
            return {}
        network, args, kwargs = found
        with torch.random.fork_rng(), torch.enable_grad():
            return study.look(network, args, kwargs, self._seen.batch_size, Workspace.find().cache)


def _job() -> JobFolder | None:
    """The job that this process is the script of."""
    place = os.environ.get(BASE)
    if place is None or not (Path(place) / "spec.json").is_file():
        return None
    return JobFolder(Path(place))


def _new_folder() -> Path:
    parent = Workspace.find().path / "profiles"
    name = time.strftime("%Y%m%d-%H%M%S")
    taken = 0
    while (parent / (name if taken == 0 else f"{name}-{taken}")).exists():
        taken += 1
    return parent / (name if taken == 0 else f"{name}-{taken}")
