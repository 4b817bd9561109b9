"""How large a batch is worth it; a rule over gradients of two batch sizes."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding

LEAST = 10


class GradientNoiseScale(Rule):
    """The batch size up to which larger batches still save steps, from how much gradients differ between batches.

    Mathematics: with squared norms of the gradient of b and of B images, |G|^2 = (B |g_B|^2 - b |g_b|^2) / (B - b) and
    S = (|g_b|^2 - |g_B|^2) / (1/b - 1/B); both are averaged over the run before S / |G|^2, the noise scale, is taken.
    At that batch size a step is half as good as with all images. Source: McCandlish et al. 2018 (arXiv 1812.06162).
    Severity: info. Repair: a batch size.
    """

    name = "gradient_noise_scale"
    needs = "squared gradient norms of two batch sizes"
    hears = frozenset({"scalars"})

    def judge(self, history: History) -> Iterator[Finding]:  # noqa: ARG002 - an average over the run
        """Nothing is told before the end."""
        yield from ()

    def finish(self, history: History) -> Iterator[Finding]:
        """Say what the whole run says."""
        small, large = history.scalar("gradient_square_small")[1], history.scalar("gradient_square_large")[1]
        few, many = history.scalar("batch_small")[1], history.scalar("batch_large")[1]
        n = min(len(small), len(large), len(few), len(many))
        if n < LEAST:
            return
        self.looked = True
        b, whole = few[:n], many[:n]
        signal = float(np.nanmean((whole * large[:n] - b * small[:n]) / (whole - b)))
        noise = float(np.nanmean((small[:n] - large[:n]) / (1 / b - 1 / whole)))
        if signal <= 0 or noise <= 0:
            return
        scale, now = noise / signal, float(np.median(whole))
        size = 2 ** int(np.clip(np.round(np.log2(scale)), 0, 16))
        verdict = (
            f"Batches up to about {size} save steps; --batch-size {size} where memory allows."
            if scale > 2 * now
            else f"Larger batches than {size} save few steps; a smaller batch costs little."
            if scale < now / 2
            else "The batch size fits."
        )
        yield self.issue(
            f"The gradient's noise scale is {scale:.0f} images; a batch has {now:.0f}.",
            verdict,
            severity="info",
            step=history.moment.step,
            evidence={"noise_scale": scale, "batch": now, "steps": n},
        )
