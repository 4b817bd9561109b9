"""What an endpoint is and where it stands, as frozen data; written by its supervisor, read by whoever looks.

The state is derived, not believed: an endpoint whose supervisor is gone is marked Failed by whoever looks next.
"""

import fcntl
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Literal, Self

from pydantic import Field, model_validator

from houndsight.errors import WorkspaceError
from houndsight.folders import EndpointFolder
from houndsight.serving.settings import Form, InstanceSettings, Limits
from houndsight.spec import Frozen
from houndsight.workspace import friendly_disk_errors, write_json

EndpointState = Literal["Creating", "InService", "Updating", "RollingBack", "Deleting", "Failed"]
"""SageMaker's words."""

VARIANT_NAME = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}")
FIRST_VARIANT = "AllTraffic"
"""Name of the one variant of a new endpoint, as SageMaker calls it."""
MOST_INSTANCES = 120
"""An update has twice as many, and the board on which they share connections has 256 places."""
RETRY_SECONDS = 0.01
SUPERVISOR_KILLED = "its supervisor was killed, or the machine was restarted"


class Variant(Frozen):
    """One model of an endpoint, and its share of the traffic."""

    name: str = FIRST_VARIANT
    """Name, as callers may give it in `X-Amzn-SageMaker-Target-Variant`."""
    model: str
    """The model as it was named."""
    revision: str
    """Its folder below the endpoint's `models/`."""
    staged: str = ""
    """Folder made of a foreign model and a script (`modeldir`), which the endpoint takes; empty for an artifact."""
    weight: float = Field(default=1.0, ge=0.0, le=1e6)
    """Its share of the traffic, relative to the other variants'."""
    instances: int = Field(default=1, ge=1, le=MOST_INSTANCES)
    """How many processes serve it."""


class EndpointSpec(Frozen):
    """What an endpoint serves and how; `endpoint.json`."""

    variants: tuple[Variant, ...] = Field(min_length=1, max_length=10)
    """Its models; one, except while models are compared."""
    host: str = "127.0.0.1"
    """Address it listens on."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port it listens on; chosen by the system where 0 was asked for."""
    runtime: str = "auto"
    """What computes: `auto` is the fastest that agrees with eager float32 on the model's validation images."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """Compute threads of one instance; by default one a core."""
    top: int = Field(default=5, ge=1)
    """How many classes an answer lists."""
    form: Form = "classes"
    """Default answer: `classes` with probabilities, or `sagemaker`'s nested list."""
    reject_below: float = Field(default=0.0, ge=0.0, le=1.0)
    """An image whose best probability is lower is answered as rejected."""
    allow_url: bool = False
    """Whether images are fetched from addresses in requests."""
    capture: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the requests that is kept with its answer, below `capture/`."""
    capture_bytes: int = Field(default=2**30, ge=2**20)
    """Most room that captured requests take; the oldest go first."""
    limits: Limits = Field(default_factory=Limits)
    """What an instance takes from its callers."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        names = [each.name for each in self.variants]
        wrong = [name for name in names if not VARIANT_NAME.fullmatch(name)]
        problems = [f"variants: '{name}' cannot be the name of a variant" for name in wrong]
        problems += ["variants: every name may be used once"] * (len(set(names)) < len(names))
        problems += ["variants: one weight at least must be more than 0"] * (not any(v.weight for v in self.variants))
        count = sum(each.instances for each in self.variants)
        problems += [f"instances: at most {MOST_INSTANCES} together (got {count})"] * (count > MOST_INSTANCES)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def variant(self, name: str) -> Variant | None:
        """The variant of that name, or None."""
        return next((each for each in self.variants if each.name == name), None)

    def settings(self, folder: EndpointFolder, model: str, instances: int) -> InstanceSettings:
        """What each of so many instances that serve the prepared model in the folder `model` is told.

        Alone they share the cores: six threads on two cores answer no more requests than three, and each one later.
        """
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        return InstanceSettings.create(
            model=model,
            threads=self.threads or -(-cores // instances),
            top=self.top,
            form=self.form,
            reject_below=self.reject_below,
            allow_url=self.allow_url,
            key_file=folder.key if folder.key.is_file() else None,
            metrics=folder.metrics,
            limits=self.limits,
            capture=folder.capture if self.capture else None,
            capture_share=self.capture,
            capture_bytes=self.capture_bytes,
        )


class InstanceStatus(Frozen):
    """One instance, as its supervisor last saw it."""

    slot: int
    """Its number within the endpoint, from 0."""
    variant: str
    """What it serves."""
    revision: str
    """Which model of that variant."""
    pid: int | None = None
    """Its process."""
    pid_started: float | None = None
    """Start time of that process (seconds since the epoch)."""
    state: Literal["starting", "ready", "waiting", "draining"] = "starting"
    """`waiting` after a crash for the next start, `draining` while it finishes its queue."""
    restarts: int = 0
    """How often it was started again."""
    reason: str = ""
    """Why it was last started again."""


class EndpointStatus(Frozen):
    """Where an endpoint stands; `status.json`."""

    state: EndpointState = "Creating"
    """Creating, InService, Updating, RollingBack, Deleting or Failed."""
    reason: str = ""
    """Why it failed, or what became of the last update."""
    url: str = ""
    """Where it answers."""
    pid: int | None = None
    """The supervisor's process."""
    pid_started: float | None = None
    """Start time of that process (seconds since the epoch)."""
    created: float = 0.0
    """When the endpoint was made (seconds since the epoch)."""
    changed: float = 0.0
    """When its state last changed."""
    instances: tuple[InstanceStatus, ...] = ()
    """Its instances."""
    helpers: tuple[tuple[int, float], ...] = ()
    """Further processes of the supervisor: id and start time of each."""


def status(folder: EndpointFolder) -> EndpointStatus:
    """The true status: an endpoint whose supervisor is gone is Failed."""
    now = EndpointStatus.read(folder.status)
    if now.pid is None or now.state == "Failed":
        return now
    try:
        with held(folder):
            now = EndpointStatus.read(folder.status)
            if now.state != "Failed":
                now = now.model_copy(update={"state": "Failed", "reason": SUPERVISOR_KILLED, "changed": time.time()})
                write_json(folder.status, now)
    except WorkspaceError:
        now = EndpointStatus.read(folder.status)
    return now


def lives(folder: EndpointFolder) -> bool:
    """Whether its supervisor lives; told by its lock, which no jump of the clock and no reused process id deceives."""
    if not folder.path.is_dir():
        return False
    try:
        with held(folder):
            return False
    except WorkspaceError:
        return True


@contextmanager
def held(folder: EndpointFolder, patience: float = 0.0) -> Iterator[int]:
    """Hold the endpoint's lock; the kernel's, so it ends with the process.

    Raises `WorkspaceError` where another process still holds it after `patience` seconds; one that only looks whether
    the supervisor lives holds it for an instant.
    """
    with friendly_disk_errors(folder.path):
        file = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise WorkspaceError(
                        f"The endpoint '{folder.name}' is running already.", "`houndsight endpoints` lists them."
                    ) from None
                Event().wait(RETRY_SECONDS)
        yield file
    finally:
        os.close(file)
