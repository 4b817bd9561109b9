"""One sound tree for all tests of the check, and one with sixteen kinds of fault in it."""

from pathlib import Path

import pytest

from houndsight.data.check import check
from houndsight.data.folder import scan
from houndsight.spec import Finding, Index
from tests.data_check import plant


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,040 different pictures in four classes and three splits; not to be written to."""
    root = tmp_path_factory.mktemp("sound")
    plant.grow(root)
    return root


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, list[Finding], plant.Planted]:
    """The index and findings of such a tree with 20 faults of each kind, and what was planted."""
    root = tmp_path_factory.mktemp("faulty")
    plant.grow(root)
    planted = plant.plant(root)
    index = scan(root)
    return index, check(index), planted
