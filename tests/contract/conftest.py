"""What the tests of script jobs share: digits as class folders, and one call that runs a script."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from houndsight.contract.script import run_script
from houndsight.errors import JobError
from houndsight.folders import JobFolder
from houndsight.records.reader import Records
from houndsight.records.writer import RecordWriter
from houndsight.reports.ran import ScriptOutcome
from houndsight.verbs.run import script_spec
from houndsight.workspace import Workspace

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 digits of each class: 20 to train on, 5 to validate, 5 to test; 8 x 8 grey PNG files in class folders."""
    folder = tmp_path_factory.mktemp("digits")
    found = load_digits()
    for label in range(10):
        images = np.rint(found.images[found.target == label] * 255 / 16).astype(np.uint8)
        for split, low, high in (("train", 0, 20), ("valid", 20, 25), ("test", 25, 30)):
            place = folder / split / str(label)
            place.mkdir(parents=True)
            for number in range(low, high):
                Image.fromarray(images[number]).save(place / f"{number}.png")
    return folder


@dataclass(frozen=True)
class Ran:
    """A script job that has ended."""

    job: JobFolder
    state: str
    error: JobError | None

    @property
    def log(self) -> str:
        return self.job.log.read_text(encoding="utf-8")

    @property
    def outcome(self) -> ScriptOutcome:
        return ScriptOutcome.read(self.job.script)

    def values(self, name: str) -> list[float]:
        return [each.value for each in Records(self.job.records).scalars(name, "script")]


RunIt = Callable[..., Ran]


@pytest.fixture
def run_it(workspace: Workspace, tmp_path: Path) -> RunIt:
    """Run a script of `scripts/` by name, or `code` as a script of its own, to its end in this process."""

    def run(
        script: str = "script.py",
        *,
        code: str | None = None,
        stop: Callable[[], bool] = lambda: False,
        grace: float | None = None,
        name: str | None = None,
        **settings: Any,
    ) -> Ran:
        folder = SCRIPTS
        if code is not None:
            folder = tmp_path / "source"
            folder.mkdir(exist_ok=True)
            (folder / script).write_text(code, encoding="utf-8")
        spec = script_spec(folder / script, **settings)
        job = workspace.create(spec, name)
        return again(job, stop, grace)

    return run


def again(job: JobFolder, stop: Callable[[], bool] = lambda: False, grace: float | None = None) -> Ran:
    """Run a job that is there, for the first or for another time."""
    from houndsight.spec import ScriptSpec

    with RecordWriter(job.records) as records:
        try:
            return Ran(job, run_script(job, ScriptSpec.read(job.spec), stop, records, grace), None)
        except JobError as error:
            return Ran(job, "FAILED", error)
