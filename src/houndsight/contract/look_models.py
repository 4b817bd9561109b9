"""The network of a script as its source tells it: backbone, weights, head, and what its outputs have been through."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from houndsight.contract.look_code import Program
from houndsight.contract.look_source import Function, argument, constant, method

_BACKBONE = re.compile(r"torchvision\.models(\.\w+)?\.([a-z]\w*)$")
_NO_MODEL = frozenset({"get_weight", "list_models", "get_model_weights", "create_feature_extractor"})
HEADS = frozenset({"fc", "classifier", "head", "heads", "last_linear"})
_LAST = frozenset({-1, 1, 2, 3, 6})
"""Places of the last layer in the classifiers of torchvision: MobileNetV2, EfficientNet, ConvNeXt, MobileNetV3, VGG."""

_BENDING = ("ReLU", "LeakyReLU", "ELU", "GELU", "SELU", "ReLU6", "SiLU", "Sigmoid", "Tanh", "Softmax", "LogSoftmax")
_AS_FUNCTIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
}
ACTIVATIONS = {
    **{f"torch.nn.{name}": name for name in _BENDING},
    **{f"torch.nn.functional.{name}": shown for name, shown in _AS_FUNCTIONS.items()},
    **{f"torch.{name}": shown for name, shown in _AS_FUNCTIONS.items()},
}
"""What an output can have been through, by module, function and tensor method."""


@dataclass(frozen=True, eq=False)
class End:
    """The last layer of a network, or the last function that its outputs go through."""

    kind: str
    """ReLU, Softmax, LogSoftmax, ...; Linear for logits as they are."""
    node: ast.AST


def backbone(program: Program, node: ast.AST) -> str:
    """Name of the network of torchvision or timm that it builds, else empty."""
    if not isinstance(node, ast.Call):
        return ""
    name = program.name(node.func)
    found = _BACKBONE.match(name)
    if found and found.group(2) not in _NO_MODEL and found.group(2) not in ("get_model", "list_models"):
        return found.group(2)
    if name in ("timm.create_model", "torchvision.models.get_model"):
        given = constant(argument(node, 0, "model_name", "name"))
        return given if isinstance(given, str) else ""
    if name == "torch.hub.load":
        given = constant(argument(node, 1, "model"))
        return given if isinstance(given, str) else ""
    return ""


def backbones(program: Program) -> list[ast.Call]:
    """Every call that builds a network of torchvision, timm or the hub."""
    return [call for call in program.calls if backbone(program, call)]


def has_weights(program: Program, call: ast.Call) -> bool:
    """Whether the backbone asks for pretrained weights."""
    named = program.name(call.func) in ("timm.create_model", "torch.hub.load", "torchvision.models.get_model")
    given = argument(call, None if named else 0, "pretrained")
    if any(constant(each) is True for each in program.origins(given)):
        return True
    weights = program.origins(argument(call, None, "weights"))
    return any(isinstance(each, ast.Attribute | ast.Subscript) or isinstance(constant(each), str) for each in weights)


def pretrained(program: Program) -> list[ast.Call]:
    """The backbones that ask for pretrained weights."""
    return [call for call in backbones(program) if has_weights(program, call)]


def own_class(program: Program, node: ast.AST) -> ast.ClassDef | None:
    """The class of these files that a call builds."""
    return program.classes.get(program.name(node.func)) if isinstance(node, ast.Call) else None


def is_model(program: Program, node: ast.AST | None) -> bool:
    """Whether the value is surely a network: a backbone, one of the script's own modules, or a Sequential."""
    for each in program.origins(node):
        built = own_class(program, each)
        if backbone(program, each) or program.is_call(each, "torch.nn.Sequential"):
            return True
        if built is not None and any("Module" in program.name(base) for base in built.bases):
            return True
    return False


@dataclass(frozen=True, eq=False)
class Head:
    """A layer that is put in the place of a network's own."""

    owner: str
    """Name of the variable that holds the network."""
    attribute: str
    """fc, classifier, ..."""
    value: ast.expr
    node: ast.stmt
    scope: ast.AST


def heads(program: Program) -> list[Head]:
    """Every `model.fc = ...` and `model.classifier[6] = ...`."""
    found = []
    for node in program.nodes:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target = node.targets[0]
        if isinstance(target, ast.Subscript):
            if constant(target.slice) not in _LAST:
                continue
            target = target.value
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name | ast.Attribute):
            owner = ast.unparse(target.value)
            if target.attr in HEADS and owner != "self":
                found.append(Head(owner, target.attr, node.value, node, program.scope(node)))
    return found


def layers(program: Program, node: ast.AST) -> list[ast.expr]:
    """The members of a Sequential; the layer itself where it is none."""
    if not program.is_call(node, "torch.nn.Sequential") or not isinstance(node, ast.Call):
        return [node] if isinstance(node, ast.expr) else []
    given: list[ast.expr] = []
    for each in node.args:
        if isinstance(each, ast.Starred):
            inner = program.origins(each.value)
            given += inner[0].elts if len(inner) == 1 and isinstance(inner[0], ast.List | ast.Tuple) else [each.value]
        elif program.is_call(each, "collections.OrderedDict", "OrderedDict") and isinstance(each, ast.Call):
            pairs = each.args[0].elts if each.args and isinstance(each.args[0], ast.List | ast.Tuple) else []
            given += [pair.elts[1] for pair in pairs if isinstance(pair, ast.Tuple | ast.List) and len(pair.elts) == 2]
        else:
            given.append(each)
    found: list[ast.expr] = []
    for each in given:
        origins = program.origins(each)
        found += layers(program, origins[0]) if len(origins) == 1 else [each]
    return found


def ends(program: Program, node: ast.AST | None, depth: int = 6) -> Iterator[End]:
    """What the outputs went through last, as far as the source tells; nothing where it does not."""
    for origin in program.origins(node):
        if not isinstance(origin, ast.Call) or not depth:
            continue
        kind = ACTIVATIONS.get(program.name(origin.func), "")
        if isinstance(origin.func, ast.Attribute) and not kind and program.name(origin.func) not in program.functions:
            kind = _AS_FUNCTIONS.get(origin.func.attr, "")
            if kind and is_model(program, origin.func.value):
                kind = ""
        if kind:
            yield End(kind, origin)
        else:
            yield from _called(program, origin, depth - 1)


def _called(program: Program, call: ast.Call, depth: int) -> Iterator[End]:
    """The end of what is called: a network, or a layer that is held by a name."""
    if program.name(call.func).startswith("self.") and program.function(call) is None:
        yield from _of_layer(program, call.func, depth)
        return
    for network in program.origins(call.func):
        yield from _of_network(program, network, depth)


def _of_layer(program: Program, node: ast.AST, depth: int) -> Iterator[End]:
    for origin in program.origins(node):
        yield from _of_network(program, origin, depth)


def _of_network(program: Program, network: ast.AST, depth: int) -> Iterator[End]:
    """The end of a network, by the call that built it."""
    if not isinstance(network, ast.Call):
        return
    built = own_class(program, network)
    name = program.name(network.func)
    if built is not None:
        for value in _returned(program, built):
            yield from ends(program, value, depth)
    elif name == "torch.nn.Sequential":
        last = layers(program, network)[-1:]
        if last and last[0] is not network:
            yield from _of_layer(program, last[0], depth)
    elif name in ACTIVATIONS:
        yield End(ACTIVATIONS[name], network)
    elif name == "torch.nn.Linear":
        yield End("Linear", network)
    elif backbone(program, network):
        replaced = [each for each in heads(program) if holds(program, each, network)]
        for each in replaced:
            yield from _of_layer(program, each.value, depth)
        if not replaced:
            yield End("Linear", network)


def _returned(program: Program, built: ast.ClassDef) -> Iterator[ast.expr]:
    """What the forward of a class of these files returns."""
    for item in built.body:
        if isinstance(item, Function) and item.name == "forward":
            for node in program.inside_function(item):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield node.value


def holds(program: Program, head: Head, network: ast.AST) -> bool:
    """Whether the head's variable holds the network."""
    target = head.node.targets[0] if isinstance(head.node, ast.Assign) else None
    while isinstance(target, ast.Subscript | ast.Attribute):
        inner = target.value
        if isinstance(target, ast.Attribute) and target.attr in HEADS:
            return network in program.origins(inner)
        target = inner
    return False


def frozen(program: Program) -> list[tuple[ast.AST, str, ast.AST]]:
    """Loops and calls that freeze all of a network: (node, name of the variable, scope)."""
    found: list[tuple[ast.AST, str, ast.AST]] = []
    for node in program.nodes:
        if isinstance(node, ast.For) and method(node.iter, "parameters") and len(node.body) == 1:
            assert isinstance(node.iter, ast.Call)
            assert isinstance(node.iter.func, ast.Attribute)
            body = node.body[0]
            sets = isinstance(body, ast.Assign) and isinstance(body.targets[0], ast.Attribute)
            if sets and body.targets[0].attr == "requires_grad" and constant(body.value) is False:  # type: ignore[attr-defined]
                found.append((node, ast.unparse(node.iter.func.value), program.scope(node)))
        elif method(node, "requires_grad_") and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = argument(node, 0, "requires_grad")
            if given is not None and constant(given) is False:
                found.append((node, ast.unparse(node.func.value), program.scope(node)))
    return found
