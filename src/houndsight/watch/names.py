"""What things are called: parameters, buffers and modules of one or several models, and which optimizer moves them."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from houndsight.watch.modules import ACTIVATIONS, NORMS

HEADS = ("head", "fc", "classifier", "heads", "last_linear")
"""What the part that is trained anew is called: ours, torchvision's and timm's names."""

WRAPPERS = ("_orig_mod.", "module.")


def bare(name: str) -> str:
    """The name without what compiling and distributing put before it."""
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper) if name.startswith(wrapper) else name
    return name.replace("._orig_mod.", ".")


def is_compiled(module: nn.Module) -> bool:
    """Whether the module is the wrapper that `torch.compile` makes; asking does not import the compiler (5 s)."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    return compiler is not None and isinstance(module, compiler.OptimizedModule)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of `torch.compile` and of distributed training."""
    while True:
        if is_compiled(model):
            inner = model._orig_mod
            assert isinstance(inner, nn.Module)
            model = inner
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def prefixes(models: Sequence[nn.Module]) -> list[str]:
    """What stands before the names of each model: nothing for a single one, else `0.`, `1.`, ..."""
    return [""] if len(models) == 1 else [f"{place}." for place in range(len(models))]


def parameters(models: dict[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Name -> parameter over all models; one that is shared goes by its first name."""
    found: dict[int, str] = {}
    for prefix, model in models.items():
        for name, each in model.named_parameters():
            found.setdefault(id(each), prefix + bare(name))
    known = {id(each): each for model in models.values() for each in model.parameters()}
    return {name: known[key] for key, name in found.items()}


def buffers(models: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Name -> floating buffer over all models, such as the running means of batch norm."""
    return {
        prefix + bare(name): each
        for prefix, model in models.items()
        for name, each in model.named_buffers()
        if each.is_floating_point() and name.rpartition(".")[2].startswith("running_")
    }


def facts(models: dict[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Any]:
    """What the rules should know of models and optimizers (records/facts.py)."""
    moved = {id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}
    named = parameters(models)
    scales = {
        id(each)
        for model in models.values()
        for module in model.modules()
        if isinstance(module, NORMS)
        for each in module.parameters(recurse=False)
    }
    first = optimizers[0].param_groups[0] if optimizers else {}
    whole: dict[str, Any] = {
        "parameters": [
            {
                "name": name,
                "shape": list(each.shape),
                "trainable": each.requires_grad,
                "in_optimizer": id(each) in moved,
                "part": _part(name, models),
                "kind": "norm" if id(each) in scales else "bias" if name.endswith("bias") else "weight",
            }
            for name, each in named.items()
        ],
        "modules": [
            {
                "name": prefix + bare(path),
                "type": type(each).__name__,
                "training": each.training,
                "norm": isinstance(each, NORMS),
                "activation": isinstance(each, ACTIVATIONS),
            }
            for prefix, model in models.items()
            for path, each in model.named_modules()
            if path and not any(True for _ in each.children())
        ],
    }
    if optimizers:
        whole["optimizer"] = type(optimizers[0]).__name__
    for key in ("lr", "weight_decay", "momentum"):
        if isinstance(first.get(key), int | float):
            whole[key] = first[key]
    if named:
        one = next(iter(named.values()))
        whole["dtype"], whole["device"] = str(one.dtype).removeprefix("torch."), one.device.type
    return whole


def _part(name: str, models: dict[str, nn.Module]) -> str:
    prefix = next((each for each in models if each and name.startswith(each)), "")
    return "head" if name.removeprefix(prefix).partition(".")[0] in HEADS else "backbone"
