"""Tries a change of settings against the present ones on the user's own data, in turns, and says what it won."""

import copy
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from houndsight.data import folder as folders
from houndsight.data import sources
from houndsight.errors import SpecError
from houndsight.records.profiling import run as runs
from houndsight.records.profiling.document import document
from houndsight.records.profiling.run import Facts
from houndsight.records.writer import RecordWriter
from houndsight.results import Verdict
from houndsight.spec import ClassifierSpec
from houndsight.watch.sampler import Sampler
from houndsight.workspace import Progress, Workspace, write_json

if TYPE_CHECKING:
    from houndsight.data.cache import DecodedImages
    from houndsight.models.network import Network
    from houndsight.spec import Index

log = logging.getLogger("houndsight")

TURNS = 4
"""How often each side has its turn, A B A B ...: what changes on the machine meanwhile meets both."""
_ENDLESS = 10_000_000
_T95 = 3.182  # of Student's distribution with TURNS - 1 = 3 degrees of freedom


@dataclass(frozen=True)
class Proof:
    """What one change won, measured."""

    change: dict[str, Any]
    """The settings that were changed."""
    before: dict[str, Any]
    """What they were."""
    expected: float | None
    """What the verdict estimated; None where it did not."""
    won: float
    """How many times as many images a second."""
    low: float
    """Lower end of the 95 % interval of `won`, from turn to turn."""
    high: float
    """Upper end."""
    images_per_second: tuple[float, float]
    """Before and after."""
    seconds: float
    """How long it was tried."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Bench:
    """One set of data and settings, ready to be trained on for some seconds, again and again."""

    spec: ClassifierSpec
    network: "Network"
    index: "Index"
    images: "DecodedImages"
    place: Workspace
    scratch: Path

    @classmethod
    @contextmanager
    def prepare(
        cls, data: str | Path, workspace: str | Path | None, progress: Progress | None, settings: dict[str, Any]
    ) -> Iterator[Self]:
        """Decode the images and build the network as a job would; raises what a job would."""
        from houndsight.data.cache import decode_all
        from houndsight.models import network
        from houndsight.training import plan
        from houndsight.training.device import choose_device, choose_precision

        asked = ClassifierSpec.create(data=str(data), **settings)
        place = Workspace.find(workspace)
        index = folders.scan(sources.local(asked.data, place.cache, progress), split_seed=asked.split_seed)
        built = network.build(asked.model_copy(update={"freeze": "none"}), len(index.classes))
        index, images = decode_all(
            index, built.network.preprocess, place.cache, workers=asked.workers, progress=progress or _quiet
        )
        spec = plan.decide(asked, built.network, index)
        if spec.optimizer == "lbfgs":
            raise SpecError(
                "These settings fit a linear head in closed form: there is no loop whose speed could be judged.",
                "Give --recipe lp-ft or --freeze none, or look at a job of yours: houndsight profile JOB.",
            )
        device = choose_device(spec.device)
        arithmetic = str(choose_precision(spec.precision, device)).removeprefix("torch.")
        # A probe of the head changes its first weights, not the speed of a step.
        fixed = {"epochs": None, "steps": _ENDLESS, "head_start": "random", "precision": arithmetic}
        spec = spec.model_copy(update=fixed)
        with tempfile.TemporaryDirectory(prefix="houndsight-") as scratch:
            yield cls(spec, built.network, index, images, place, Path(scratch))

    def profile(self, seconds: float) -> tuple[Path, dict[str, Any]]:
        """Train for so long with the sampler beside it; the folder of the records and what they say."""
        parent = self.place.path / "profiles"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=parent))
        sampler = Sampler(folder, 0.2)
        try:
            looked = self._train(self.spec, folder, seconds, look=True)
        finally:
            sampler.stop()
        write_json(folder / runs.FACTS, Facts(**self._facts(), **looked))
        found = document(runs.read(folder))
        write_json(folder / "profile.json", found)
        return folder, found

    def changes(self, verdict: Verdict | None) -> list[tuple[dict[str, Any], float | None]]:
        """What is worth trying: the verdict's change, or where arithmetic is the limit what makes it cheaper."""
        if verdict is None:
            return []
        for each in (verdict, *verdict.alternatives):
            if each.settings:
                return [(each.settings, each.expected)]
        other = "bfloat16" if self.spec.precision == "float32" else "float32"
        return [({"precision": other}, None), ({"batch_size": 2 * self.spec.batch_size}, None)]

    def prove(self, change: dict[str, Any], expected: float | None, seconds: float) -> Proof:
        """Train in turns with and without `change`, `seconds` in all."""
        changed = self.spec.model_copy(update=change)
        each = seconds / (2 * TURNS)
        began = time.monotonic()
        rates: dict[str, list[float]] = {"a": [], "b": []}
        for turn in range(TURNS):
            for side, spec in (("a", self.spec), ("b", changed)):
                folder = self.scratch / f"{len(list(self.scratch.iterdir()))}-{side}{turn}"
                self._train(spec, folder, each)
                rates[side].append(_images_per_second(folder, spec.batch_size))
        if min(*rates["a"], *rates["b"]) == 0:
            raise SpecError(f"No step was done within {each:.1f} seconds.", "Give more --seconds.")
        won, low, high = ratio(rates["a"], rates["b"])
        return Proof(
            change=change,
            before={name: getattr(self.spec, name) for name in change},
            expected=expected,
            won=won,
            low=low,
            high=high,
            images_per_second=(float(np.mean(rates["a"])), float(np.mean(rates["b"]))),
            seconds=time.monotonic() - began,
        )

    def _train(self, spec: ClassifierSpec, folder: Path, seconds: float, *, look: bool = False) -> dict[str, Any]:
        """Train for so long; with `look`, what a look at the network says afterwards."""
        from houndsight.data.loader import ImageBatches
        from houndsight.models import network
        from houndsight.training.loop import fit
        from houndsight.training.prepare import prepare

        net = copy.deepcopy(self.network)
        network.freeze_stages(net, spec.freeze)
        with RecordWriter(folder) as records:
            batches = prepare(spec, net, self.index, self.images, self.place.cache, records, _quiet)
            end = time.monotonic() + seconds
            fit(
                net,
                batches,
                spec,
                checkpoints=folder / "checkpoints",
                records=records,
                stop=lambda: time.monotonic() >= end,
                progress=_quiet,
            )
        if not look or not isinstance(batches, ImageBatches):
            return {}
        from houndsight.watch import study

        return study.look_at_images(net, spec.batch_size, net.preprocess.image_size, self.place.cache)

    def _facts(self) -> dict[str, Any]:
        from houndsight.watch.profiler import classifier_facts

        return classifier_facts(self.spec)


def ratio(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """How many times as fast, with its 95 % interval: the mean of the turns' log ratios and Student's t.

    Turns, not steps, are what repeats: a neighbour that comes and goes moves all steps of a turn together.
    """
    logs = np.log(np.array(after) / np.array(before))
    error = _T95 * float(logs.std(ddof=1)) / len(logs) ** 0.5
    middle = float(logs.mean())
    return float(np.exp(middle)), float(np.exp(middle - error)), float(np.exp(middle + error))


def _images_per_second(folder: Path, batch: int) -> float:
    """Rate of one turn by its median step, 0 where there was none."""
    each = runs.read(folder).loop.each()
    return batch / float(np.median(each)) if len(each) else 0.0


def _quiet(_stage: str, _done: int, _total: int) -> None:
    """Nobody looks on."""
