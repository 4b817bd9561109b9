"""A small training loop as anybody writes it, with one place for each mistake that people make in theirs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 10
MEAN, STD = 0.305, 0.376  # of scikit-learn's digits, scaled to 0..1


@dataclass(frozen=True)
class Data:
    """Images (n, 1, 8, 8) in 0..1 and labels (n,) of training and validation."""

    train: Tensor
    train_labels: Tensor
    valid: Tensor
    valid_labels: Tensor


@cache
def digits() -> Data:
    """1,200 training and 400 validation images of scikit-learn's handwritten digits."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(7))
    images = torch.tensor(found.images, dtype=torch.float32)[order, None] / 16
    labels = torch.tensor(found.target)[order]
    return Data(images[:1200], labels[:1200], images[1200:1600], labels[1200:1600])


class Block(nn.Module):
    """Two convolutions with batch norm and what a residual network adds in place."""

    def __init__(self, width: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu = activation()
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.relu(out)  # type: ignore[no-any-return]


def residual(width: int, activation: Callable[[], nn.Module], channels: int = 1) -> nn.Sequential:
    """A residual network of five convolutions with batch norm; in-place ReLU where it is one."""
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), activation(), nn.MaxPool2d(2)),
        *(Block(width, activation), nn.MaxPool2d(2), Block(width, activation)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)),
    )


def plain(width: int, activation: Callable[[], nn.Module], channels: int = 1) -> nn.Sequential:
    """Three convolutions and two linear layers without any normalisation, with dropout."""
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 3, padding=1), activation(), nn.Conv2d(width, width, 3, padding=1), activation()),
        *(nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), activation(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(8 * width, 64), activation(), nn.Dropout(0.1), nn.Linear(64, CLASSES)),
    )


ARCHITECTURES = {"residual": residual, "plain": plain}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


@dataclass(frozen=True)
class Run:
    """One training; the defaults are healthy."""

    architecture: str = "residual"
    seed: int = 0
    activation: str = "relu"
    width: int = 16
    optimizer: str = "sgd"
    lr: float = 0.05
    weight_decay: float = 1e-4
    batch: int = 32
    epochs: int = 5
    images: int = 960
    schedule: str = "constant"
    warmup: int = 0
    augment: bool = False
    smoothing: float = 0.0
    shuffle: bool = True
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    scale: Callable[[Tensor], Tensor] = field(default=lambda images: (images - MEAN) / STD)
    data: Callable[[Data, torch.Generator], Data] | None = None
    build: Callable[[nn.Sequential], nn.Module] | None = None
    parameters: Callable[[nn.Module], list[nn.Parameter]] = field(default=lambda model: list(model.parameters()))
    begin_epoch: Callable[[nn.Module], Any] = nn.Module.train
    begin_valid: Callable[[nn.Module], Any] = nn.Module.eval
    scaler: float = 0.0
    metric: Callable[[int, int], float] = field(default=lambda right, count: right / count)
    stuck: bool = False
    accumulate: int = 1
    facts: dict[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> "Run":
        """The same run with something changed."""
        return replace(self, **changes)


def network(run: Run) -> nn.Module:
    """The network as the run wants it."""
    torch.manual_seed(run.seed)
    net = ARCHITECTURES[run.architecture](run.width, ACTIVATIONS[run.activation])
    return run.build(net) if run.build else net


def optimizer_of(run: Run, net: nn.Module) -> torch.optim.Optimizer:
    """The optimizer as the run wants it."""
    own = run.parameters(net)
    if run.optimizer == "sgd":
        return torch.optim.SGD(own, run.lr, momentum=0.9, weight_decay=run.weight_decay)
    kind = torch.optim.Adam if run.optimizer == "adam" else torch.optim.AdamW
    return kind(own, run.lr, weight_decay=run.weight_decay)


def batches(run: Run, images: Tensor, labels: Tensor, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Images, labels and ids of each batch of an epoch."""
    generator = torch.Generator().manual_seed(1000 * run.seed + epoch)
    count = len(labels)
    order = torch.randperm(count, generator=generator) if run.shuffle else torch.arange(count)
    for ids in torch.split(order, run.batch):
        chosen = order[: run.batch] if run.stuck else ids
        if run.stuck:
            chosen = torch.arange(run.batch)
        batch = images[chosen]
        if run.augment:
            shift = torch.randint(-1, 2, (2,), generator=generator).tolist()
            batch = torch.roll(batch, shift, dims=(2, 3))
        yield run.scale(batch), labels[chosen], chosen


def rate(run: Run, step: int, total: int) -> float:
    """The learning rate of a step."""
    if step < run.warmup:
        return run.lr * (step + 1) / run.warmup
    if run.schedule == "cosine":
        return run.lr * 0.5 * (1 + float(torch.cos(torch.tensor(3.14159 * step / total))))
    return run.lr


def loss_of(run: Run) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss as the run wants it."""
    return run.loss or nn.CrossEntropyLoss(label_smoothing=run.smoothing)


def prepared(run: Run) -> Data:
    """The data as the run wants them."""
    data = digits()
    data = replace(data, train=data.train[: run.images], train_labels=data.train_labels[: run.images])
    return run.data(data, torch.Generator().manual_seed(100 + run.seed)) if run.data else data


def hits(logits: Tensor, labels: Tensor) -> int:
    """How many are right."""
    return int((logits.argmax(1) == labels).sum())


def plain_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) cross-entropy of each image."""
    given = logits.detach().float()
    return torch.logsumexp(given, dim=1) - given.gather(1, labels[:, None])[:, 0]
