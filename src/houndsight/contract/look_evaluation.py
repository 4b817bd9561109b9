"""What the source tells of a script's numbers: modes and gradients of evaluation, metrics that are cut, and slices."""

import ast
import re
from collections.abc import Iterator, Sequence

from houndsight.contract.look_code import Program
from houndsight.contract.look_data import LOADERS, answering, loaders, split_of
from houndsight.contract.look_found import issue
from houndsight.contract.look_scale import wrong_divisors
from houndsight.contract.look_source import Function, constant, method
from houndsight.spec import Finding

_METRIC = re.compile(r"(^|_)(loss|losses|acc|accuracy|correct|corrects|metric|f1|precision|recall|score)(_|s?$)")
_EVALUATES = re.compile(r"(^|_)(test|testing|valid|validate|validation|val|eval|evaluate|evaluation)(_|$)")
_OFF = ("torch.no_grad", "torch.inference_mode", "torch.set_grad_enabled", "torch.autograd.no_grad")


def evaluation_rules(program: Program, tuned: str, entry_point: str) -> Iterator[Finding]:
    """All rules of this file; `tuned` is the regular expression of the metric by which a tuning chooses."""
    functions = list(dict.fromkeys(program.functions.values()))
    measuring = [each for each in functions if _measures(program, each)]
    yield from _gradients(program, [*measuring, *(each for each in functions if _by_phase(program, each))])
    yield from _mode(program, measuring)
    yield from _divided(program)
    yield from wrong_divisors(program)
    yield from _slices(program)
    yield from _on_test(program, measuring, tuned, entry_point)


def answer_rules(answers: Program) -> Iterator[Finding]:
    """Modes and gradients of the functions that answer requests."""
    asked = answering(answers, "predict_fn", "transform_fn")
    if not asked:
        return
    loaded = answering(answers, "model_fn")
    nodes = [node for each in (*asked, *loaded) for node in answers.inside_function(each)]
    calls = [node for each in asked for node in answers.inside_function(each) if _runs_model(node)]
    if calls and not any(_switches_off(answers, node) for node in (*nodes, *asked)):
        yield issue(
            answers,
            "no_grad",
            "info",
            calls[:1],
            "{at}: the answer is computed with gradients: more memory and time for nothing.",
            "Put it under: with torch.no_grad():",
        )
    filled = any(method(node, "load_state_dict") or answers.is_call(node, "torch.load") for node in nodes)
    if calls and filled and not any(method(node, "eval") for node in nodes) and not _scripted(answers, loaded):
        yield issue(
            answers,
            "wrong_mode",
            "warning",
            calls[:1],
            "{at}: the model answers in training mode: dropout and batch norm make the answer depend on chance.",
            "Call model.eval() at the end of model_fn.",
        )


def _scripted(answers: Program, loaded: Sequence[Function]) -> bool:
    return any(answers.is_call(node, "torch.jit.load") for each in loaded for node in answers.inside_function(each))


def _runs_model(node: ast.AST) -> bool:
    """Whether it calls something by the name of a model."""
    name = ast.unparse(node.func).lower() if isinstance(node, ast.Call) else ""
    return name in ("model", "net", "self.model", "self.net", "network", "model.forward", "classifier", "m")


def _loops(program: Program, function: Function) -> list[ast.For]:
    """Its loops over a loader."""
    return [
        node for node in program.inside_function(function) if isinstance(node, ast.For) and over_loader(program, node)
    ]


def over_loader(program: Program, loop: ast.For) -> bool:
    """Whether the loop goes over batches."""
    origins = program.origins(loop.iter)
    if any(program.name(each.func) in LOADERS for each in origins if isinstance(each, ast.Call)):
        return True
    return any("loader" in ast.unparse(each).lower() and not _is_range(each) for each in (loop.iter, *origins))


def _is_range(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("range", "zip")


def _measures(program: Program, function: Function) -> bool:
    """Whether it runs a model over a loader and trains nothing."""
    if not _loops(program, function):
        return False
    nodes = list(program.inside_function(function))
    runs = any(_runs_model(node) for node in nodes)
    return runs and not any(method(node, "backward", "zero_grad") for node in nodes)


def _by_phase(program: Program, function: Function) -> bool:
    """Whether it trains and evaluates in the same loop, by the name of a phase: both eval and backward behind an if."""
    nodes = program.inside_function(function)
    asked = [
        any(
            isinstance(above, ast.If) and program.within(above, ast.For) is not None
            for above in _up_to(program, node, function)
        )
        for name in ("eval", "backward")
        for node in nodes
        if method(node, name)
    ]
    return len(asked) > 1 and all(asked) and len(_loops(program, function)) == 1


def _up_to(program: Program, node: ast.AST, function: Function) -> Iterator[ast.AST]:
    """What the node stands in, as far as the function."""
    for above in program.above(node):
        if above is function:
            return
        yield above


def _switches_off(program: Program, node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and program.name(node.func) in _OFF:
        return True
    decorators = node.decorator_list if isinstance(node, Function) else []
    named = [each.func if isinstance(each, ast.Call) else each for each in decorators]
    return any(program.name(each) in _OFF for each in named)


def _gradients(program: Program, functions: Sequence[Function]) -> Iterator[Finding]:
    wrong: list[ast.AST] = []
    for function in functions:
        nodes = [function, *program.inside_function(function)]
        around = [above for call in program.callers(function) for above in program.above(call)]
        items = [item.context_expr for each in around if isinstance(each, ast.With) for item in each.items]
        if not any(_switches_off(program, node) for node in (*nodes, *items, *around)):
            wrong += _loops(program, function)[:1]
    if wrong:
        yield issue(
            program,
            "no_grad",
            "warning",
            wrong,
            "{at}: the evaluation keeps what a backward would need: memory and time for nothing.",
            "Put the loop under: with torch.no_grad():  (torch.set_grad_enabled(phase == 'train') for phases).",
        )


def _mode(program: Program, measuring: Sequence[Function]) -> Iterator[Finding]:
    """Evaluation in training mode, and training that stays in evaluation mode."""
    evaluates = [call for call in program.calls if method(call, "eval") and not call.args]
    trains = [
        call for call in program.calls if method(call, "train") and (not call.args or constant(call.args[0]) is True)
    ]
    framework = any("lightning" in program.name(each.func).lower() for each in program.calls)
    bare = [each for each in measuring if _EVALUATES.search(each.name.lower())]
    if bare and not framework and not evaluates:
        yield issue(
            program,
            "wrong_mode",
            "error",
            [_loops(program, each)[0] for each in bare],
            "{at}: the model is evaluated in training mode: dropout and batch norm distort the numbers.",
            "Call model.eval() before the loop, and model.train() before the next epoch.",
        )
    within = [call for call in evaluates if _repeated(program, call)]
    if within and not trains and any(method(call, "backward") for call in program.calls):
        yield issue(
            program,
            "wrong_mode",
            "warning",
            within[:1],
            "{at}: after this the model is never put back into training mode.",
            "Call model.train() at the beginning of each training epoch.",
        )


def _repeated(program: Program, call: ast.Call) -> bool:
    """Whether it stands in a loop over epochs that trains, itself or by its function."""
    places: list[ast.AST] = [call]
    function = program.within(call, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(function, Function):
        places += program.callers(function)
    for place in places:
        for above in program.above(place):
            if isinstance(above, ast.For) and not over_loader(program, above) and _trains(program, above):
                return True
    return False


def _trains(program: Program, node: ast.AST, depth: int = 2) -> bool:
    for each in program.inside(node):
        if method(each, "backward"):
            return True
        called = program.function(each) if isinstance(each, ast.Call) and depth else None
        if called is not None and any(_trains(program, inner, depth - 1) for inner in called.body):
            return True
    return False


def _named(node: ast.AST) -> bool:
    """Whether a name in it is that of a metric."""
    for each in ast.walk(node):
        name = each.id if isinstance(each, ast.Name) else each.attr if isinstance(each, ast.Attribute) else ""
        if _METRIC.search(name.lower()):
            return True
    return False


def _divided(program: Program) -> Iterator[Finding]:
    """Metrics that are cut to whole numbers."""
    wrong: list[ast.AST] = []
    for node in program.nodes:
        if (isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv) and _named(node.left)) or (
            isinstance(node, ast.AugAssign) and isinstance(node.op, ast.FloorDiv) and _named(node.target)
        ):
            wrong.append(node)
        elif isinstance(node, ast.Call) and program.name(node.func) in ("int", "math.floor") and len(node.args) == 1:
            given = node.args[0]
            if isinstance(given, ast.Name) and re.search("loss|acc", given.id.lower()):
                wrong.append(node)
    if wrong:
        yield issue(
            program,
            "integer_metrics",
            "warning",
            wrong,
            "{at}: the metric is cut to a whole number, so nothing can be told or tuned by it.",
            "Divide with / in place of //.",
        )


def _slices(program: Program) -> Iterator[Finding]:
    """Loops over a loader that end after some of the batches."""
    wrong = []
    for node in program.nodes:
        if not isinstance(node, ast.Break):
            continue
        loop = program.within(node, ast.For, ast.While)
        if not isinstance(loop, ast.For) or not over_loader(program, loop):
            continue
        counting = _counters(loop)
        nearest = program.within(node, ast.If, ast.For)
        if isinstance(nearest, ast.If) and _counts(nearest.test, counting):
            wrong.append(node)
    if wrong:
        yield issue(
            program,
            "partial_data",
            "warning",
            wrong,
            "{at}: the loop ends after a part of the images; what it trains or measures rests on that part only.",
            "Leave the break out for the final training and for every number that you compare.",
        )


def _counters(loop: ast.For) -> set[str]:
    """Names that count batches or images in the loop."""
    found = set()
    for each in ast.walk(loop):
        adds = isinstance(each, ast.AugAssign) and isinstance(each.op, ast.Add)
        if adds and isinstance(each.target, ast.Name) and not _named(each.target):  # type: ignore[attr-defined]
            found.add(each.target.id)  # type: ignore[attr-defined]
    called = isinstance(loop.iter, ast.Call) and ast.unparse(loop.iter.func).endswith(("enumerate", "tqdm"))
    if called and isinstance(loop.target, ast.Tuple) and isinstance(loop.target.elts[0], ast.Name):
        found.add(loop.target.elts[0].id)
    return found


def _counts(test: ast.expr, names: set[str]) -> bool:
    """Whether it compares a counter with a number, or with a share of the images; `max_steps` is a plan, no slice."""
    for each in ast.walk(test):
        if not isinstance(each, ast.Compare) or not isinstance(each.ops[0], ast.Gt | ast.GtE | ast.Eq):
            continue
        sides = [each.left, each.comparators[0]]
        counting = [any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(side)) for side in sides]
        if counting == [True, False] and _is_number(sides[1]):
            return True
    return False


def _is_number(node: ast.expr) -> bool:
    return isinstance(constant(node), int | float) or (
        isinstance(node, ast.BinOp) and any(isinstance(constant(each), float) for each in (node.left, node.right))
    )


def _on_test(program: Program, measuring: Sequence[Function], tuned: str, entry_point: str) -> Iterator[Finding]:
    """A tuning that chooses by a number of the test split."""
    literal = max(re.split(r"[\\\[\](){}.*+?|^$]+", tuned), key=len).strip() if tuned else ""
    hpo = re.search(r"(^|[^a-z])(hpo|tun(e|ing)|hyper\w*)([^a-z]|$)", entry_point.lower())
    if not literal and not hpo:
        return
    for function in measuring:
        said = [
            node.value for node in ast.walk(function) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        if literal and not any(literal in each for each in said):
            continue
        loops = _loops(program, function)
        splits = {split_of(program, each, 0) for loop in loops for each in _loaded(program, loop)}
        if splits == {"test"}:
            yield issue(
                program,
                "chosen_on_test",
                "warning" if literal else "info",
                [loops[0]],
                "{at}: this number is of the test images; a tuning that chooses by it learns from them.",
                "Choose by the validation images, and look at the test images once, with the chosen settings.",
            )
            return


def _loaded(program: Program, loop: ast.For) -> list[ast.AST]:
    by_call = {each.call: each for each in loaders(program)}
    found: list[ast.AST] = []
    for origin in program.origins(loop.iter):
        loader = by_call.get(origin) if isinstance(origin, ast.Call) else None
        found.append(ast.Constant(loader.split) if loader else origin)
    return found
