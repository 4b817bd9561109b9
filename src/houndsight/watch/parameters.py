"""Weights, gradients and updates of the parameters of one optimizer, taken around its step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from houndsight.watch.plan import DebugSpec
from houndsight.watch.statistics import COLUMNS, Panel, norms
from houndsight.watch.table import Block

PAIRED = 512
"""Values of each gradient that are held against those of the next step."""

LINEAR = tuple(COLUMNS[name] for name in ("mean", "std", "min", "max", "l1", "l2", "p05", "p50", "p95"))
"""Columns that grow with the tensor; shares do not."""


class Parameters:
    """Takes statistics of some parameters; frozen ones and those without a gradient have none of a gradient.

    Updates are differences of the sampled weights before and behind the step: true for every optimizer, its weight
    decay, skipped steps and whatever else it does included, for 0.5 ms where a copy of 45 MB of weights takes 13.
    """

    def __init__(self, named: dict[str, nn.Parameter], spec: DebugSpec, *, distance: bool) -> None:
        """`distance`: the weights are now as they were at the beginning, and how far they go is to be told."""
        self._named = {name: each for name, each in named.items() if each.requires_grad}
        self._spec = spec
        self._most = 1 << 62 if spec.exact else spec.sample
        self._wanted = distance
        self._layouts: dict[tuple[bool, ...], _Layout] = {}
        self._layout: _Layout | None = None
        self._before: Tensor | None = None
        self._first: Tensor | None = None
        self._weights = Panel([each.numel() for each in self._named.values()], self._most)
        self._gradients: Tensor | None = None
        self._trained = Panel([each.numel() for each in self._named.values()], min(self._most, PAIRED))
        counts = [min(each.numel(), self._trained.most) for each in self._named.values()]
        shares = [each.numel() / count for each, count in zip(self._named.values(), counts, strict=True) if count]
        ordered = [(shares[place], counts[place]) for place in self._trained.order]
        self._shares = torch.cat([torch.full((count,), share) for share, count in ordered]) if ordered else None

    @torch.no_grad()
    def before(self, scale: float | None, *, full: bool) -> list[Block]:
        """Weights and gradients as they are before the step; the gradients are `scale` times too large where given."""
        if not self._named:
            return []
        there = tuple(each.grad is not None for each in self._named.values())
        layout = self._layouts.get(there)
        if layout is None:
            layout = self._layouts[there] = _Layout(self._named, there, self._most, self._spec.takes)
        weights = [each.detach() for each in self._named.values()]
        gradients = [_dense(each.grad) for each in self._named.values() if each.grad is not None]
        tensors = [*weights, *gradients]
        device = weights[0].device
        samples = layout.panel.gather(tensors, device)
        table = layout.panel.statistics(samples, norms(tensors, device), quantiles=full)
        if scale is not None:
            table[len(weights) :, LINEAR] /= scale
        pieces = layout.panel.pieces(samples)
        self._before = torch.cat([pieces[place] for place in self._weights.order])
        if self._first is None and self._wanted:
            self._first = self._before
        self._layout = layout
        return [layout.block(table)]

    @torch.no_grad()
    def remember(self) -> None:
        """Keep a sample of the gradients of this step, to be held against those of the next."""
        self._gradients = self._sampled()

    @torch.no_grad()
    def paired(self) -> Tensor | None:
        """(2,) the mean squared norm of this step's gradient and of the one remembered, and that of their mean.

        Two steps in a row see nearly the same weights and other images, so their mean is the gradient of a batch twice
        as large; from both the noise of the gradient follows (McCandlish et al. 2018). None where a parameter has no
        gradient. Estimated from at most `PAIRED` values of each tensor.
        """
        before, self._gradients = self._gradients, None
        now = self._sampled() if before is not None else None
        if before is None or now is None or self._shares is None:
            return None
        shares = self._shares = self._shares.to(now.device)
        one, other, both = ((shares * a * b).sum() for a, b in ((before, before), (now, now), (before, now)))
        return torch.stack([(one + other) / 2, (one + other + 2 * both) / 4])

    def _sampled(self) -> Tensor | None:
        gradients = [_dense(each.grad) for each in self._named.values() if each.grad is not None]
        if not gradients or len(gradients) < len(self._named):
            return None
        return self._trained.gather(gradients, gradients[0].device)

    @torch.no_grad()
    def after(self, *, full: bool) -> list[Block]:
        """What the step did to the weights."""
        if self._before is None or not self._named:
            return []
        now = self._weights.gather([each.detach() for each in self._named.values()], self._before.device)
        blocks = [self._block("update/", now - self._before)]
        if full and self._first is not None:
            blocks.append(self._block("distance/", now - self._first))
        self._before = None
        return [block for block in blocks if block.names]

    def raw(self, writes: Callable[[str], bool]) -> dict[str, Tensor]:
        """Copies on the host of the weights and gradients that are to be written themselves."""
        found = {}
        for name, each in self._named.items():
            if writes(f"weight/{name}"):
                found[f"weight/{name}"] = each.detach().to("cpu", copy=True).contiguous()
            if each.grad is not None and writes(f"gradient/{name}"):
                found[f"gradient/{name}"] = _dense(each.grad).to("cpu", copy=True).contiguous()
        return found

    def suspects(self, text: str) -> dict[str, Tensor]:
        """Weights and gradients of the parameters whose names stand in `text`; of all where none does."""
        named = {name: each for name, each in self._named.items() if name in text} or self._named
        found: dict[str, Tensor] = {}
        for name, each in named.items():
            found[f"weight/{name}"] = each.detach()
            if each.grad is not None:
                found[f"gradient/{name}"] = _dense(each.grad)
        return found

    def _block(self, prefix: str, samples: Tensor) -> Block:
        table = self._weights.statistics(samples, None, quantiles=False)
        names = [prefix + name for name in self._named]
        kept = [place for place, name in enumerate(names) if self._spec.takes(name)]
        if len(kept) == len(names):
            return Block(tuple(names), table)
        return Block(tuple(names[place] for place in kept), table[kept])


class _Layout:
    """Which rows there are where this set of parameters has gradients."""

    def __init__(
        self, named: dict[str, nn.Parameter], there: tuple[bool, ...], most: int, takes: Callable[[str], bool]
    ) -> None:
        names = [f"weight/{name}" for name in named]
        names += [f"gradient/{name}" for name, has in zip(named, there, strict=True) if has]
        sizes = [each.numel() for each in named.values()]
        sizes += [each.numel() for each, has in zip(named.values(), there, strict=True) if has]
        self.panel = Panel(sizes, most)
        kept = [place for place, name in enumerate(names) if takes(name)]
        self._kept = None if len(kept) == len(names) else kept
        self._names = tuple(names[place] for place in kept)

    def block(self, table: Tensor) -> Block:
        return Block(self._names, table if self._kept is None else table[self._kept])


def _dense(gradient: Tensor) -> Tensor:
    return gradient.detach().to_dense() if gradient.is_sparse else gradient.detach()
