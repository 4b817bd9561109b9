"""What one instance is told: its model, its limits, how it answers; written by the supervisor, read by the instance."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from houndsight.spec import Frozen

Form = Literal["classes", "sagemaker"]


class Limits(Frozen):
    """What one instance takes from its callers."""

    body_bytes: int = Field(default=6 * 2**20, ge=1024)
    """Largest body of a request, compressed and not; Amazon's own limit is 6 MiB."""
    pixels: int = Field(default=50_000_000, ge=1)
    """Most pixels of one image; judged by its header, before decoding."""
    images: int = Field(default=64, ge=1, le=4096)
    """Most images of one request."""
    queue: int = Field(default=256, ge=1)
    """Images that may wait; one more is answered 429 with Retry-After."""
    connections: int = Field(default=2048, ge=1)
    """Connections open at once; further ones wait in the kernel's queue."""
    read_seconds: float = Field(default=20.0, gt=0)
    """Longest time from a request's first byte to its last; slower ones are cut."""
    answer_seconds: float = Field(default=60.0, gt=0)
    """Longest time from a whole request to its answer; a request that waited longer is dropped with 504."""
    idle_seconds: float = Field(default=75.0, gt=0)
    """How long a connection is kept without a request."""
    drain_seconds: float = Field(default=30.0, gt=0)
    """Longest time to finish the queue after SIGTERM."""


class InstanceSettings(Frozen):
    """One instance of one variant."""

    model: Path
    """Prepared model folder (`serving.prepare`), or for handlers the unpacked model folder."""
    handlers: Path | None = None
    """A SageMaker `inference.py` whose functions answer instead of the classifier."""
    python: Path | None = None
    """The interpreter that runs them, where they asked for packages of their own; else this one."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Further environment variables for them."""
    private: bool = False
    """Stand the model's folder at /opt/ml/model for them, and for them alone."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """Compute threads; by default one a core the process may use."""
    batch: int = Field(default=8, ge=1, le=64)
    """Largest batch of one forward pass; 8 costs as little an image as 32 on a CPU."""
    top: int = Field(default=5, ge=1)
    """How many classes an answer lists."""
    form: Form = "classes"
    """Default answer: `classes` with probabilities, or `sagemaker`'s nested list of probabilities."""
    reject_below: float = Field(default=0.0, ge=0.0, le=1.0)
    """An image whose best probability is lower is answered as rejected: no class."""
    allow_url: bool = False
    """Whether `{"url": ...}` is fetched; refused by default."""
    key_file: Path | None = None
    """File with the key that callers must send as `X-Api-Key` or `Authorization: Bearer`."""
    metrics: Path | None = None
    """Folder in which the instances of an endpoint share their counters."""
    limits: Limits = Field(default_factory=Limits)
    """What it takes from its callers."""
    capture: Path | None = None
    """Folder in which a share of the requests is kept with its answers."""
    capture_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the requests that is kept."""
    capture_bytes: int = Field(default=2**30, ge=2**20)
    """Most room that they take, those of all instances together; the oldest go first."""
