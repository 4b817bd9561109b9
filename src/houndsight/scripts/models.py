"""Which models an optimizer moves: the one that is called, else the outermost ones that hold its parameters."""

import gc
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

Optimizers = Sequence[torch.optim.Optimizer]


def moved_by(optimizers: Optimizers) -> list[int]:
    """The identities of all parameters that the optimizers move, in their order."""
    return [id(each) for one in optimizers for group in one.param_groups for each in group["params"]]


def holds(model: nn.Module, parameters: set[int]) -> bool:
    """Whether any of these parameters belongs to the model."""
    return any(id(each) in parameters for each in model.parameters())


def models_of(called: nn.Module | None, optimizers: Optimizers) -> list[nn.Module]:
    """The models whose parameters the optimizers move.

    The module that is called where it holds all of them; else they are looked for among all modules that live: a loop
    may train an encoder and a decoder, or call the parts of its model one by one.
    """
    order = moved_by(optimizers)
    wanted = set(order)
    if called is not None and wanted <= {id(each) for each in called.parameters()}:
        return [called]
    alive = list(_alive())
    above: dict[int, list[nn.Module]] = {}
    for module in alive:
        for child in module._modules.values():
            if child is not None:
                above.setdefault(id(child), []).append(module)
    owners = [each for each in alive if any(id(one) in wanted for one in each._parameters.values())]
    found = {id(each): each for owner in owners for each in _outermost(owner, above, called)}
    place = {identity: at for at, identity in enumerate(order)}
    return sorted(found.values(), key=lambda each: min(place.get(id(one), len(order)) for one in each.parameters()))


def parts(models: Iterable[nn.Module]) -> set[int]:
    """The identities of the models and of all modules in them."""
    return {id(each) for model in models for each in model.modules()}


def _alive() -> Iterator[nn.Module]:
    for each in gc.get_objects():
        # Asking an object for its class may run its own code; its type is not asked but known.
        if issubclass(type(each), nn.Module) and not issubclass(type(each), torch.jit.ScriptModule):
            yield each


def _outermost(module: nn.Module, above: dict[int, list[nn.Module]], called: nn.Module | None) -> list[nn.Module]:
    """What stands above a module and has nothing above it; the climb ends at the module that is called."""
    found, seen, left = [], {id(module)}, [module]
    while left:
        each = left.pop()
        parents = [] if each is called else above.get(id(each), [])
        if not parents:
            found.append(each)
        for parent in parents:
            if id(parent) not in seen:
                seen.add(id(parent))
                left.append(parent)
    return found
