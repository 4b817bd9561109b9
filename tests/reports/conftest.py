"""Finished jobs of the tests of the page, made once."""

from pathlib import Path

import pytest

from houndsight.folders import JobFolder
from houndsight.reports import summary

from .factory import make_job


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    """A completed job on ten classes with its report; for reading only."""
    job = make_job(tmp_path_factory.mktemp("finished"))
    summary.build(job)
    return job


@pytest.fixture(scope="package")
def many(tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    """A completed job of 10,000 steps on 133 classes with its report; for reading only."""
    names = [f"{number:03d}.Kerry_blue_terrier_{number}" for number in range(133)]
    job = make_job(tmp_path_factory.mktemp("many"), classes=names, steps=10_000, per_class=6)
    summary.build(job)
    return job


@pytest.fixture
def workspace_folder(tmp_path: Path) -> Path:
    """Where a test makes its own jobs."""
    return tmp_path / "runs"
