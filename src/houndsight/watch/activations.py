"""What goes in and out of networks and their modules in a saved forward pass, as rows of statistics."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from houndsight.watch import names
from houndsight.watch.modules import NORMS, Tap, chosen, first_tensor
from houndsight.watch.plan import DebugSpec
from houndsight.watch.statistics import COLUMNS, Panel
from houndsight.watch.table import Block

_L1, _L2, _DEAD, _SATURATED = (COLUMNS[name] for name in ("l1", "l2", "dead", "saturated"))


class Activations:
    """Gathers the activations of one forward pass, or of all those of one training step."""

    def __init__(self, spec: DebugSpec) -> None:
        self._spec = spec
        self._models: dict[str, nn.Module] = {}
        self._modules: list[tuple[str, nn.Module, bool]] = []
        self._switched: list[nn.Module] = []
        self._panels: dict[tuple[int, ...], Panel] = {}
        self._writes = spec.writes if spec.raw or spec.collections else None
        self._tap = self._fresh()
        self._kept: Tap | None = None
        self.open = True
        """Whether modules may be listened to: inside a compiled network a hook would break its graphs."""
        self.inputs_of: nn.Module | None = None
        """The module whose input counts as the batch; the network itself where it is None."""

    def attach(self, models: dict[str, nn.Module], given: Sequence[nn.Module]) -> None:
        """Know the networks, inside and with their wrappers, and which of their modules to listen to."""
        self._models = models
        parts = [each for model in given for each in model.modules()]
        self.open = not any(names.is_compiled(each) or each._compiled_call_impl is not None for each in parts)
        for prefix, model in models.items():
            self._switched += [each for each in model.modules() if isinstance(each, (*NORMS, nn.Dropout))]
            if self.open:
                self._modules += chosen(prefix, model, self._spec.wants)

    def detach(self) -> None:
        """Let go of the networks."""
        self._tap.disarm()
        self._tap, self._kept = self._fresh(), None
        self._modules, self._switched, self._models, self.inputs_of = [], [], {}, None

    def arm(self, level: int) -> None:
        """Listen from now on: at level 2 to the modules, at 1 to what the network is given, at 0 to nothing."""
        self._tap.disarm()
        if level and self.inputs_of is not None:
            self._tap.listen(self.inputs_of, lambda _module, given: self.given(given))
        if level > 1:
            self._tap.arm(self._modules)

    def given(self, given: Any) -> None:
        """Take in the batch that the network was given, and each channel of it where it is one of images."""
        tensor = first_tensor(given)
        if tensor is None or "inputs" in self._tap.samples:
            return
        self._tap.add("inputs", tensor)
        if tensor.ndim == 4 and tensor.shape[1] in (1, 3, 4):
            for channel in range(tensor.shape[1]):
                self._tap.add(f"inputs/{channel}", tensor[:, channel])

    def made(self, made: Any, name: str = "outputs") -> None:
        """Take in what the network returned."""
        tensor = first_tensor(made)
        if tensor is not None:
            self._tap.add(name, tensor)

    def in_training(self) -> float | None:
        """Share of the layers that differ between training and evaluation which are in training mode."""
        return sum(each.training for each in self._switched) / len(self._switched) if self._switched else None

    def aside(self) -> None:
        """Begin a pass apart from the step's own, until `back`."""
        self._tap.disarm()
        self._kept, self._tap = self._tap, self._fresh()

    def back(self) -> None:
        """Go on with the step's own."""
        self._tap.disarm()
        if self._kept is not None:
            self._tap, self._kept = self._kept, None

    def clear(self) -> None:
        """Forget what was gathered: another step begins."""
        self._tap.clear()

    @property
    def raw(self) -> dict[str, Tensor]:
        """Copies on the host of the activations that are to be written themselves."""
        return self._tap.raw

    def blocks(self) -> list[Block]:
        """What was gathered as rows of statistics."""
        tap = self._tap
        if not tap.samples:
            return []
        rows = tuple(tap.samples)
        sizes = tuple(each.numel() for each in tap.samples.values())
        panel = self._panels.setdefault(sizes, Panel(sizes, max(sizes)))
        device = next(iter(tap.samples.values())).device
        with torch.no_grad():
            table = panel.statistics(panel.gather(list(tap.samples.values()), device), None, quantiles=True)
            whole = torch.tensor(list(tap.sizes.values()), dtype=torch.float32) / torch.tensor(sizes)
            whole = whole.to(device, non_blocking=True)
            table[:, _L1] *= whole  # from the sample to the tensor
            table[:, _L2] *= whole.sqrt()
            for shares, column in ((tap.dead, _DEAD), (tap.saturated, _SATURATED)):
                if shares:
                    places = [rows.index(name) for name in shares]
                    table[places, column] = torch.stack([each.to(device) for each in shares.values()])
        return [Block(rows, table)]

    def running(self) -> list[Block]:
        """Running means and variances of the norms as rows."""
        found = {f"buffer/{name}": each for name, each in names.buffers(self._models).items()}
        found = {name: each for name, each in found.items() if self._spec.takes(name)}
        if not found:
            return []
        sizes = tuple(each.numel() for each in found.values())
        panel = self._panels.setdefault(sizes, Panel(sizes, max(sizes)))
        with torch.no_grad():
            samples = panel.gather(list(found.values()), next(iter(found.values())).device)
            return [Block(tuple(found), panel.statistics(samples, None, quantiles=False))]

    def _fresh(self) -> Tap:
        return Tap(1 << 62 if self._spec.exact else self._spec.sample, self._spec.takes, self._writes)


def unwrapped(models: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Prefix of the names -> the model inside its wrappers."""
    inner = [names.unwrapped(each) for each in models]
    return dict(zip(names.prefixes(inner), inner, strict=True))
