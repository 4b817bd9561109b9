"""Real jobs from a real warm process, with PyTorch imported: classifiers and the scripts of `tests/contract`."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from houndsight.backends import pool
from houndsight.backends.local import LocalBackend
from houndsight.contract.environment import at_start
from houndsight.reports.ran import ScriptOutcome
from houndsight.verbs.digits import write_digits
from houndsight.verbs.job import Job
from houndsight.verbs.run import run
from houndsight.verbs.train import train
from houndsight.workspace import Workspace

from .conftest import log, of

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[1] / "contract" / "scripts"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("warm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(pool.COLD, "0")
        backend = LocalBackend(of_script=at_start)
        for kind in ("script", "classifier"):
            assert backend.warm_up(folder / "runs", {"kind": kind}), list(pool.folder_of(folder / "runs").glob("*.log"))
        yield folder
        for each in of(folder / "runs"):
            each.kill()
            each.wait(10.0)


def both(start: Any, **settings: Any) -> tuple[Job, Job]:
    jobs = tuple(start(cold=cold, wait=False, **settings) for cold in (True, False))
    for job in jobs:
        job.wait()
    return jobs[0], jobs[1]


def files(job: Job) -> set[str]:
    return {each.relative_to(job.folder).as_posix() for each in job.folder.rglob("*") if each.is_file()}


def test_a_classifier_is_the_same(place: Path) -> None:
    write_digits(place / "data")
    for image in sorted((place / "data").glob("*/*"))[::2]:
        image.unlink()
    settings = {"backbone": "squeezenet1_1", "weights": "none", "image_size": 32, "epochs": 2, "threads": 1, "seed": 3}
    cold, warm = both(train, data=place / "data", workspace=place / "runs", freeze="all", optimizer="adam", **settings)
    assert (cold.state, warm.state) == ("COMPLETED", "COMPLETED"), warm.logs()
    assert files(warm) == files(cold)
    assert warm.metrics == cold.metrics
    tensors = [(job.folder / "model" / "model.safetensors").read_bytes() for job in (cold, warm)]
    assert tensors[0] == tensors[1]


APART = ("stubborn.py", "progress.py")  # one waits to be stopped, of the other the log depends on the time
EXPECTED = sorted(each.name for each in SCRIPTS.glob("*.py") if each.name not in APART)


@pytest.fixture(scope="module")
def digits(place: Path) -> Path:
    """A folder of train, valid and test, each with the same 60 digits."""
    write_digits(place / "all")
    for split in ("train", "valid", "test"):
        for image in sorted((place / "all").glob("*/*"))[::30]:
            (place / "splits" / split / image.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place / "splits" / split / image.parent.name / image.name)
    return place / "splits"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_script_is_the_same(place: Path, digits: Path, name: str, tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "code")
    with (tmp_path / "code" / name).open("a") as file:
        file.write("\n# torch\n")
    cold, warm = both(
        run,
        script=name,
        source_dir=tmp_path / "code",
        workspace=place / "runs",
        channels={"training": digits, **{each: digits / each for each in ("train", "valid", "test")}},
        hyperparameters={"epochs": 1},
    )
    assert (warm.state, warm.status.exit_code) == (cold.state, cold.status.exit_code)
    first, second = (ScriptOutcome.read(job.files.script) for job in (cold, warm))
    assert second.error.replace(warm.name, "") == first.error.replace(cold.name, "")
    assert files(warm) == files(cold)
    assert log(warm.files) == log(cold.files)


def test_torch_is_whole_in_a_fork(place: Path, tmp_path: Path) -> None:
    """Threads, workers of every kind, autograd, an optimizer, the compiler's package, saving and loading."""
    (tmp_path / "script.py").write_text("""
import multiprocessing, sys
print("WARM", "torch" in sys.modules)
import torch
from torch.utils.data import DataLoader, TensorDataset

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
    def forward(self, x):
        return self.layer(x)

def collate(rows):
    return torch.stack([row[0] for row in rows])

if __name__ == "__main__":
    torch.set_num_threads(2)
    assert (torch.ones(500, 500) @ torch.ones(500, 500)).sum() == 500.0 ** 3
    data = TensorDataset(torch.arange(640.0).view(10, 64))
    for method in ("fork", "spawn"):
        loader = DataLoader(data, batch_size=5, num_workers=1, collate_fn=collate, multiprocessing_context=method)
        print(method, sum(float(batch.sum()) for batch in loader))
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(4, 64)).sum().backward()
    optimizer.step()
    torch.save(net.state_dict(), "net.pt")
    print(sorted(torch.load("net.pt", weights_only=True)))
    print(torch.initial_seed() != 0, torch.cuda.is_initialized(), multiprocessing.get_start_method())
""")
    cold, warm = both(run, script=tmp_path / "script.py", workspace=Workspace(place / "runs").path)
    assert (cold.state, warm.state) == ("COMPLETED", "COMPLETED"), warm.logs()
    assert "WARM True" in warm.logs()
    assert log(warm.files).replace("WARM True", "WARM False") == log(cold.files)
