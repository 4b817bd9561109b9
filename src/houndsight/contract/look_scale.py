"""Metrics of a script that are divided by the wrong number, or twice: means by images, sums by batches."""

import ast
from collections.abc import Iterator

from houndsight.contract.look_code import Program
from houndsight.contract.look_data import LOADERS
from houndsight.contract.look_found import issue
from houndsight.contract.look_source import Function, argument, constant, method
from houndsight.spec import Finding

_MEANS = ("torch.nn.CrossEntropyLoss", "torch.nn.NLLLoss")
_SAME_NUMBER = ("item", "detach", "cpu")
_MEAN_CALLS = ("torch.nn.functional.cross_entropy", "torch.nn.functional.nll_loss")


def wrong_divisors(program: Program) -> Iterator[Finding]:
    """Divisions of what was gathered over a loader by something that does not belong to it."""
    small: list[ast.AST] = []
    large: list[ast.AST] = []
    twice: list[ast.AST] = []
    for function in dict.fromkeys(program.functions.values()):
        gathered = _gathered(program, function)
        for node, left, right in _divisions(program, function):
            core = _core(left)
            if core is None:
                continue
            if core.id in gathered:
                unit = _unit(program, right)
                if gathered[core.id] == "mean" and unit == "images":
                    small.append(node)
                elif gathered[core.id] in ("sum", "count") and unit == "batches":
                    large.append(node)
            elif any(_same(value, right) for value, place in program.bound(core) if place is None):
                twice.append(node)
    if small:
        yield issue(
            program,
            "metric_scale",
            "warning",
            small,
            "{at}: means of batches are added and divided by the number of images: too small by the batch size.",
            "Divide by len(loader), or add loss.item() * inputs.size(0).",
        )
    if large:
        yield issue(
            program,
            "metric_scale",
            "warning",
            large,
            "{at}: sums over images are divided by the number of batches: too large by the batch size.",
            "Divide by len(loader.dataset).",
        )
    if twice:
        yield issue(
            program,
            "metric_scale",
            "warning",
            twice,
            "{at}: this is divided by the number of images a second time: next to 0 whatever the model does.",
            "Divide once.",
        )


def _same(value: ast.expr, right: ast.expr) -> bool:
    """Whether the value was divided by the same length before."""
    return (
        isinstance(value, ast.BinOp)
        and isinstance(value.op, ast.Div)
        and isinstance(right, ast.Call)
        and ast.unparse(value.right) == ast.unparse(right)
        and ast.unparse(right.func) == "len"
    )


def _gathered(program: Program, function: Function) -> dict[str, str]:
    """Name -> what is added to it: mean (of a batch), sum (over its images), count (of those that are right)."""
    found: dict[str, set[str]] = {}
    for node in program.inside_function(function):
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, set()).add(_kind(program, node.value))
    return {name: next(iter(kinds)) for name, kinds in found.items() if len(kinds) == 1 and "" not in kinds}


def _kind(program: Program, value: ast.expr) -> str:
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult):
        sides = (value.left, value.right)
        return "sum" if any(_kind(program, each) == "mean" for each in sides) and any(map(_of_batch, sides)) else ""
    if _equal(value):
        return "count"
    inner = value
    while isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in _SAME_NUMBER:
        inner = inner.func.value
    for each in program.origins(inner):
        if not isinstance(each, ast.Call):
            continue
        if program.name(each.func) in _MEAN_CALLS:
            return "mean" if _reduces(each) else "sum" if _sums(each) else ""
        for built in program.origins(each.func):
            if program.is_call(built, *_MEANS) and isinstance(built, ast.Call):
                return "mean" if _reduces(built) else "sum" if _sums(built) else ""
    return ""


def _reduces(call: ast.Call) -> bool:
    given = argument(call, None, "reduction")
    return argument(call, None, "size_average", "reduce") is None and (given is None or constant(given) == "mean")


def _sums(call: ast.Call) -> bool:
    return constant(argument(call, None, "reduction")) == "sum"


def _of_batch(node: ast.expr) -> bool:
    words = ast.unparse(node)
    return any(each in words for each in ("size(", "len(", "shape[0]", "batch_size"))


def _equal(value: ast.expr) -> bool:
    """A sum of what equals something."""
    sums = any(
        method(each, "sum") or (isinstance(each, ast.Call) and ast.unparse(each.func) == "sum")
        for each in ast.walk(value)
    )
    equal = any(
        method(each, "eq") or (isinstance(each, ast.Compare) and isinstance(each.ops[0], ast.Eq))
        for each in ast.walk(value)
    )
    means = any(method(each, "mean") for each in ast.walk(value))
    return sums and equal and not means


def _divisions(program: Program, function: Function) -> Iterator[tuple[ast.AST, ast.expr, ast.expr]]:
    for node in program.inside_function(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.FloorDiv):
            yield node, node.left, node.right
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div | ast.FloorDiv):
            yield node, node.target, node.value


def _core(node: ast.expr) -> ast.Name | None:
    """The name behind factors and conversions: `100.0 * correct.double()`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        sides = [each for each in (node.left, node.right) if constant(each) is None]
        return _core(sides[0]) if len(sides) == 1 else None
    if isinstance(node, ast.Call):
        if method(node, "double", "item", "float", "cpu"):
            assert isinstance(node.func, ast.Attribute)
            return _core(node.func.value)
        return _core(node.args[0]) if ast.unparse(node.func) == "float" and len(node.args) == 1 else None
    return node if isinstance(node, ast.Name) else None


def _unit(program: Program, right: ast.expr) -> str:
    """What a length counts: images, batches; empty where that is not sure."""
    lengths = [
        each for each in program.origins(right) if isinstance(each, ast.Call) and ast.unparse(each.func) == "len"
    ]
    if len(lengths) != 1 or len(lengths[0].args) != 1:
        return ""
    given = lengths[0].args[0]
    if isinstance(given, ast.Attribute) and given.attr == "dataset":
        return "images"
    kinds = {
        "batches" if program.name(each.func) in LOADERS else "images" if ".datasets." in program.name(each.func) else ""
        for each in program.origins(given)
        if isinstance(each, ast.Call)
    }
    if len(kinds) == 1:
        return next(iter(kinds))
    return ""
