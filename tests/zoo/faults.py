"""The planted mistakes: each a change of a healthy run, with the rules that must name it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .runs import Data, Run


@dataclass(frozen=True)
class Fault:
    """One mistake."""

    name: str
    """What is wrong, in words."""
    rules: tuple[str, ...]
    """Any of these, at warning or error, names it (`label_suspects` at info)."""
    plant: Callable[[Run], Run]
    """The healthy run with the mistake in it."""
    twin: Callable[[Run], Run] | None = None
    """The run without it, where that is not the plain one."""

    @property
    def twin_name(self) -> str:
        """Under which mistake's name its twin runs: those of the plain run share one."""
        return self.name if self.twin is not None else next(each.name for each in FAULTS if each.twin is None)


def _each(change: Callable[[nn.Module], None], *kinds: type[nn.Module]) -> Callable[[nn.Sequential], nn.Module]:
    def build(net: nn.Sequential) -> nn.Module:
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, kinds):
                    change(module)
        return net

    return build


def _weights(change: Callable[[Tensor], Any], last: bool = False) -> Callable[[nn.Sequential], nn.Module]:
    def build(net: nn.Sequential) -> nn.Module:
        modules = [each for each in net.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
        with torch.no_grad():
            for module in modules if last else modules[:-1]:
                change(module.weight)
        return net

    return build


def _behind(module: nn.Module) -> Callable[[nn.Sequential], nn.Module]:
    return lambda net: net.append(module)


def _dead_bias(net: nn.Sequential) -> nn.Module:
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d) or (isinstance(module, nn.Conv2d) and module.bias is not None):
                assert module.bias is not None
                module.bias.fill_(-20.0)
    return net


def _freeze(net: nn.Sequential, *, head: bool) -> nn.Module:
    layers = list(net.children())
    for layer in layers if head else layers[:-1]:
        layer.requires_grad_(False)
    return net


def _shuffled(data: Data, generator: torch.Generator) -> Data:
    order = torch.randperm(len(data.train_labels), generator=generator)
    return replace(data, train_labels=data.train_labels[order])


def _noisy(data: Data, generator: torch.Generator) -> Data:
    labels = data.train_labels.clone()
    wrong = torch.randperm(len(labels), generator=generator)[: len(labels) // 10]
    labels[wrong] = (labels[wrong] + torch.randint(1, 10, (len(wrong),), generator=generator)) % 10
    return replace(data, train_labels=labels)


def _imbalanced(data: Data, generator: torch.Generator) -> Data:
    keep = torch.ones(len(data.train_labels), dtype=torch.bool)
    for rare in (3, 8):
        keep[torch.nonzero(data.train_labels == rare)[:, 0][2:]] = False
    return replace(data, train=data.train[keep], train_labels=data.train_labels[keep])


def _leaked(data: Data, generator: torch.Generator) -> Data:
    half = len(data.valid) // 2
    return replace(
        data,
        train=torch.cat([data.train[:-half], data.valid[:half]]),
        train_labels=torch.cat([data.train_labels[:-half], data.valid_labels[:half]]),
    )


def _swapped_classes(data: Data, generator: torch.Generator) -> Data:
    return replace(data, valid_labels=(data.valid_labels * 3 + 1) % 10)


def _swapped_pair(data: Data, generator: torch.Generator) -> Data:
    order = torch.arange(10)
    order[[2, 7]] = order[[7, 2]]
    return replace(data, valid_labels=order[data.valid_labels])


def _sorted(data: Data, generator: torch.Generator) -> Data:
    order = torch.argsort(data.train_labels, stable=True)
    return replace(data, train=data.train[order], train_labels=data.train_labels[order])


def _few(data: Data, generator: torch.Generator) -> Data:
    return replace(data, train=data.train[:50], train_labels=data.train_labels[:50])


def _norms_awake(net: nn.Module) -> None:
    net.train()


def _detached(net: nn.Sequential) -> nn.Module:
    middle = len(net) // 2

    class Detach(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach()

    net.insert(middle, Detach())
    return net


def _nll(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.nll_loss(logits, labels)


def _through_half(gradient: Tensor) -> Tensor:
    return gradient.half().float()


def _half_gradients(net: nn.Sequential) -> nn.Module:
    for parameter in net.parameters():
        parameter.register_hook(_through_half)  # type: ignore[no-untyped-call]
    return net


def _saturated(net: nn.Sequential) -> nn.Module:
    _weights(lambda weight: weight.mul_(60))(net)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(30.0)
    return net


TANH = "tanh"
MEAN_OVER_STD = 0.305 / 0.376

FAULTS: tuple[Fault, ...] = (
    Fault(
        "learning rate x100",
        ("weight_update_ratio", "exploding_tensor", "loss_not_decreasing"),
        lambda run: run.but(lr=run.lr * 100),
    ),
    Fault("learning rate /1000", ("weight_update_ratio", "loss_not_decreasing"), lambda run: run.but(lr=run.lr / 1000)),
    Fault(
        "weights start at zero",
        ("poor_weight_initialization", "all_zero"),
        lambda run: run.but(build=_weights(lambda weight: weight.zero_())),
    ),
    Fault(
        "weights start at one value",
        ("poor_weight_initialization",),
        lambda run: run.but(build=_weights(lambda weight: weight.fill_(0.01))),
    ),
    Fault(
        "weights start 20 times too large",
        ("poor_weight_initialization", "initial_loss"),
        lambda run: run.but(build=_weights(lambda weight: weight.mul_(20), last=True)),
    ),
    Fault(
        "activations explode with depth",
        ("poor_weight_initialization", "initial_loss", "exploding_tensor"),
        lambda run: run.but(architecture="plain", build=_weights(lambda weight: weight.mul_(100), last=True)),
        lambda run: run.but(architecture="plain"),
    ),
    Fault("dead ReLU by its bias", ("dead_relu",), lambda run: run.but(build=_dead_bias)),
    Fault(
        "saturated tanh",
        ("saturated_activation",),
        lambda run: run.but(activation=TANH, build=_saturated),
        lambda run: run.but(activation=TANH),
    ),
    Fault(
        "everything frozen but a random head",
        ("optimizer_coverage",),
        lambda run: run.but(build=lambda net: _freeze(net, head=False), facts={"pretrained": False}),
    ),
    Fault(
        "the new head is frozen too",
        ("optimizer_coverage",),
        lambda run: run.but(
            build=lambda net: (_freeze(net, head=True), net[0].requires_grad_(True), net)[-1],
            facts={"pretrained": True},
        ),
    ),
    Fault(
        "a layer is missing in the optimizer",
        ("optimizer_coverage",),
        lambda run: run.but(parameters=lambda net: list(net.parameters())[:-2]),
    ),
    Fault("a layer is detached", ("optimizer_coverage",), lambda run: run.but(build=_detached)),
    Fault("pixels from 0 to 255", ("check_input_images",), lambda run: run.but(scale=lambda images: images * 255)),
    Fault(
        "pixels divided by 255 twice", ("check_input_images",), lambda run: run.but(scale=lambda images: images / 255)
    ),
    Fault(
        "constant inputs",
        ("check_input_images", "all_zero"),
        lambda run: run.but(scale=lambda images: torch.full_like(images, -MEAN_OVER_STD)),
    ),
    Fault(
        "no normalisation for a pretrained network",
        ("input_preprocessing",),
        lambda run: run.but(
            build=_three_channels, scale=lambda images: images.expand(-1, 3, -1, -1), facts={"pretrained": True}
        ),
        lambda run: run.but(build=_three_channels, scale=_imagenet, facts={"pretrained": True}),
    ),
    Fault(
        "shuffled labels",
        ("loss_not_decreasing", "validation_at_chance", "overfit"),
        lambda run: run.but(data=_shuffled),
    ),
    Fault("10 % wrong labels", ("label_suspects",), lambda run: run.but(data=_noisy)),
    Fault("1:60 imbalance", ("class_imbalance",), lambda run: run.but(data=_imbalanced)),
    Fault(
        "classes of validation in another order", ("validation_at_chance",), lambda run: run.but(data=_swapped_classes)
    ),
    Fault("two classes swapped in validation", ("confusion",), lambda run: run.but(data=_swapped_pair)),
    Fault("eval mode in training", ("wrong_mode",), lambda run: run.but(begin_epoch=nn.Module.eval)),
    Fault("training mode in validation", ("wrong_mode",), lambda run: run.but(begin_valid=_norms_awake)),
    Fault(
        "batch norms of a frozen backbone train",
        ("batchnorm_drift",),
        lambda run: run.but(
            architecture="residual", build=lambda net: _freeze(net, head=False), facts={"pretrained": True}
        ),
        lambda run: run.but(
            architecture="residual",
            build=lambda net: _freeze(net, head=False),
            begin_epoch=nn.Module.eval,
            facts={"pretrained": True},
        ),
    ),
    Fault("not shuffled", ("not_shuffled",), lambda run: run.but(shuffle=False, data=_sorted)),
    Fault("half of validation in training", ("leakage",), lambda run: run.but(data=_leaked)),
    Fault("the loader is stuck", ("repeated_batches",), lambda run: run.but(stuck=True)),
    Fault(
        "AMP overflow",
        ("loss_scale",),
        lambda run: run.but(
            lr=run.lr * 1e-6,
            scaler=65536.0,
            build=_half_gradients,
            loss=lambda y, t: 1e6 * nn.functional.cross_entropy(y, t),
        ),
        lambda run: run.but(scaler=65536.0, build=_half_gradients),
    ),
    Fault("softmax before cross-entropy", ("head_outputs",), lambda run: run.but(build=_behind(nn.Softmax(dim=1)))),
    Fault("ReLU on the logits", ("head_outputs",), lambda run: run.but(build=_behind(nn.ReLU()))),
    Fault("sigmoid before cross-entropy", ("head_outputs",), lambda run: run.but(build=_behind(nn.Sigmoid()))),
    Fault(
        "nll_loss on logits",
        ("head_outputs",),
        lambda run: run.but(loss=_nll),
    ),
    Fault("summed loss", ("loss_reduction",), lambda run: run.but(loss=nn.CrossEntropyLoss(reduction="sum"))),
    Fault("metrics divided as integers", ("integer_metrics",), lambda run: run.but(metric=lambda right, n: right // n)),
    Fault(
        "weight decay 10",
        ("weight_decay", "tensor_variance"),
        lambda run: run.but(optimizer="adamw", lr=2e-3, weight_decay=10.0),
    ),
    Fault("fifty images learnt by heart", ("overfit",), lambda run: run.but(data=_few, epochs=30, batch=16)),
)
"""Every mistake of the zoo."""


def _three_channels(net: nn.Sequential) -> nn.Module:
    first = net[0]
    assert isinstance(first, nn.Conv2d)
    net[0] = nn.Conv2d(3, first.out_channels, 3, padding=1, bias=first.bias is not None)
    return net


def _imagenet(images: Tensor) -> Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return (images.expand(-1, 3, -1, -1) - mean) / std
