"""torchvision is imported without torch's compiler, and misses nothing."""

import subprocess
import sys

import pytest

CODE = """
import sys
from houndsight.models.backbones import resolve
from houndsight.models.lean import torchvision_models
resolve("mobilenet_v2").create(64, 0)
assert "torchvision" in sys.modules
assert "torch._dynamo" not in sys.modules, "an update of torchvision asks for more: 5 s at every start"
import torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0]])
assert torchvision.ops.roi_align(torch.ones(1, 1, 4, 4), boxes, 2).shape == (1, 1, 2, 2)
assert torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu") in (True, False)
import torch._dynamo.utils as real
assert real.__spec__ is not None and real.is_compile_supported.__module__ == real.__name__
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
assert torchvision_models() is torchvision.models
"""

EAGER = """
import sys
import torch
from houndsight.models import lean
sys.modules.update({name: lean._stand_in(name) for name in ("torch._dynamo", "torch._dynamo.utils")})
assert callable(sys.modules["torch._dynamo"].disable)
assert sys.modules["torch._dynamo"].__spec__ is not None
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_networks_come_without_the_compiler() -> None:
    run(CODE)


@pytest.mark.slow
def test_whoever_asks_for_more_gets_the_real_one() -> None:
    run(EAGER)
