"""What the tests of `smdebug` share: a small network, a hook for it, and a clean process."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from houndsight.folders import drop_in
from houndsight.scripts import smdebug_hook
from houndsight.scripts.smdebug_hook import Hook


class Net(nn.Module):
    """A convolution, an activation that works in place, and a head."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 5)."""
        found: Tensor = self.fc(self.drop(self.relu(self.conv(x))).mean(dim=(2, 3)))
        return found


def batch(seed: int = 0, count: int = 6) -> tuple[Tensor, Tensor]:
    """Images and labels, by their seed always the same."""
    made = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 6, 6, generator=made), torch.randint(0, 5, (count,), generator=made)


def fit(
    model: nn.Module, steps: int, *, start: int = 0, before: Callable[[int], object] = lambda _: None
) -> torch.optim.Optimizer:
    """Train; returns the optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(start, start + steps):
        before(step)
        images, labels = batch(step)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return optimizer


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No hook of another test, and none of this one is left."""
    monkeypatch.delenv("SMDEBUG_CONFIG_FILE_PATH", raising=False)
    made: list[Hook] = []
    plain = smdebug_hook.set_hook

    def noted(hook: Hook) -> None:
        made.append(hook)
        plain(hook)

    monkeypatch.setattr(smdebug_hook, "set_hook", noted)
    torch.manual_seed(0)
    yield
    for hook in made:
        hook.close()
    smdebug_hook.del_hook()
    smdebug_hook._made.clear()


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`import smdebug` finds ours, and is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(drop_in()))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "smdebug"]:
        del sys.modules[name]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a hook writes."""
    return tmp_path / "tensors"
