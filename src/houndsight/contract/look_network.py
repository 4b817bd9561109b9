"""What the source tells of a script's network: outputs and loss, what is trained, on which device."""

import ast
from collections.abc import Iterator

from houndsight.contract.look_code import Program
from houndsight.contract.look_found import Severity, issue
from houndsight.contract.look_models import HEADS, End, backbone, ends, frozen, heads, holds, is_model
from houndsight.contract.look_source import Function, argument, constant, method
from houndsight.spec import Finding

_ENTROPY = ("torch.nn.CrossEntropyLoss", "torch.nn.functional.cross_entropy")
_LIKELIHOOD = ("torch.nn.NLLLoss", "torch.nn.functional.nll_loss")
_CUTTING = frozenset({"ReLU", "ReLU6", "LeakyReLU", "ELU", "GELU", "SELU", "SiLU"})
_OPTIMIZERS = ("torch.optim.", "timm.optim.", "transformers.AdamW")


def network_rules(program: Program, gpus: int) -> Iterator[Finding]:
    """All rules of this file."""
    yield from _outputs(program)
    yield from _trained(program)
    yield from device_rules(program, gpus)


def _losses(program: Program) -> Iterator[tuple[ast.expr, bool]]:
    """(what goes into a loss, whether it is the negative log-likelihood)."""
    for call in program.calls:
        names = {program.name(each.func) for each in program.origins(call.func) if isinstance(each, ast.Call)}
        names.add(program.name(call.func) if program.name(call.func).startswith("torch.nn.functional.") else "")
        given = argument(call, 0, "input")
        if given is not None and names & {*_ENTROPY, *_LIKELIHOOD}:
            yield given, bool(names & set(_LIKELIHOOD))


def _outputs(program: Program) -> Iterator[Finding]:
    """What the loss is given that is no logit, or no logarithm."""
    wrong: dict[tuple[str, bool], list[ast.AST]] = {}
    for given, likelihood in _losses(program):
        for end in ends(program, given):
            if _is_wrong(end, likelihood):
                nodes = wrong.setdefault((end.kind, likelihood), [])
                if end.node not in nodes:
                    nodes.append(end.node)
    for (kind, likelihood), nodes in wrong.items():
        message, repair, severity = _words(kind, likelihood)
        yield issue(program, "head_outputs", severity, nodes, message, repair)


def _is_wrong(end: End, likelihood: bool) -> bool:
    return end.kind != "LogSoftmax" if likelihood else end.kind != "Linear"


def _words(kind: str, likelihood: bool) -> tuple[str, str, Severity]:
    if likelihood and kind == "Linear":
        return (
            "{at}: NLLLoss is given logits as they are; the loss falls without end and its value means nothing.",
            "Use nn.CrossEntropyLoss() (F.cross_entropy), or F.log_softmax(outputs, dim=1) before it.",
            "error",
        )
    if likelihood:
        return f"{{at}}: NLLLoss is given {kind} where it needs logarithms.", "Use log_softmax in its place.", "error"
    if kind == "LogSoftmax":
        return (
            "{at}: log_softmax goes before a cross-entropy, which takes it once more; nothing changes but the time.",
            "Leave it out, or use nn.NLLLoss().",
            "info",
        )
    if kind in _CUTTING:
        return (
            f"{{at}}: {kind} on the outputs: "
            + (
                "a class whose logit is negative gets no gradient." if kind in ("ReLU", "ReLU6") else "logits are bent."
            ),
            f"Leave the last {kind} out: cross-entropy takes the outputs of the last Linear.",
            "error" if kind in ("ReLU", "ReLU6") else "warning",
        )
    return (
        f"{{at}}: {kind} goes before a cross-entropy, which takes the softmax itself: the loss cannot fall to 0.",
        f"Leave the {kind} out in training; at inference it gives probabilities.",
        "warning",
    )


def _trained(program: Program) -> Iterator[Finding]:
    """A head that is frozen, or that the optimizer does not have."""
    made = heads(program)
    for node, owner, scope in frozen(program):
        after = [each for each in made if each.scope is scope and each.owner == owner]
        late = [each for each in after if each.node.lineno < node.lineno]  # type: ignore[attr-defined]
        if after and len(late) == len(after) and not _thawed(scope, node):
            yield issue(
                program,
                "optimizer_coverage",
                "error",
                [node],
                "{at}: everything is frozen after the new head was put in, the head too: nothing learns.",
                f"Move these lines above line {after[0].node.lineno}, where the head is made.",
            )
    for call in program.calls:
        if program.name(call.func).startswith(_OPTIMIZERS):
            yield from _of_optimizer(program, call)


def _thawed(scope: ast.AST, node: ast.AST) -> bool:
    """Whether something is made trainable again behind the node."""
    for each in ast.walk(scope):
        later = getattr(each, "lineno", 0) > node.lineno  # type: ignore[attr-defined]
        sets = isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Attribute)
        if later and sets and each.targets[0].attr == "requires_grad" and constant(each.value) is not False:  # type: ignore[attr-defined]
            return True
        if later and method(each, "requires_grad_", "unfreeze"):
            return True
    return False


def _of_optimizer(program: Program, call: ast.Call) -> Iterator[Finding]:
    given = argument(call, 0, "params")
    origins = program.origins(given)
    if len(origins) != 1 or not method(origins[0], "parameters"):
        return
    source = origins[0].func.value  # type: ignore[attr-defined]
    named = source.attr if isinstance(source, ast.Attribute) else ""
    owner = source.value if named else source
    networks = [each for each in program.origins(owner) if backbone(program, each)]
    made = [each for each in heads(program) if any(holds(program, each, network) for network in networks)]
    if not made:
        return
    if named in HEADS and all(each.attribute != named for each in made):
        yield issue(
            program,
            "optimizer_coverage",
            "error",
            [call, made[0].node],
            f"{{at}}: the optimizer has {named}, but the new head is {made[0].attribute}: the head does not learn.",
            f"Give it {ast.unparse(owner)}.{made[0].attribute}.parameters().",
        )
    before = [each for each in made if each.scope is program.scope(call) and each.node.lineno > call.lineno]
    if before and len(before) == len(made):
        yield issue(
            program,
            "optimizer_coverage",
            "error",
            [call, before[0].node],
            f"{{at}}: the optimizer is made before line {before[0].node.lineno} replaces the head, and trains the old.",
            f"Make the optimizer below line {before[0].node.lineno}.",
        )


def device_rules(program: Program, gpus: int, training: bool = True) -> Iterator[Finding]:
    """A model that stays off the GPU that is there, or is sent to one that is not."""
    moves = [node for node in program.calls if method(node, "to", "cuda") and _moves(node)]
    hard = [node for node in moves if _demands_cuda(program, node)]
    if gpus == 0 and hard:
        yield issue(
            program,
            "cuda_absent",
            "error",
            hard,
            "{at}: this asks for a GPU, and this machine has none.",
            'Type device = torch.device("cuda" if torch.cuda.is_available() else "cpu"), and .to(device).',
        )
    if gpus and training and not any(_of_model(program, node) for node in moves):
        trained = [call for call in program.calls if method(call, "backward") and not call.args]
        if trained and not _elsewhere(program):
            yield issue(
                program,
                "gpu_unused",
                "warning",
                trained[:1],
                f"{{at}}: the model is trained on the CPU; {'the GPU idles' if gpus == 1 else f'{gpus} GPUs idle'}.",
                'Type device = torch.device("cuda"), then model.to(device), and .to(device) for images and labels.',
            )


def _moves(call: ast.Call) -> bool:
    """Whether it names a device; `.to(torch.float32)` does not."""
    words = ast.unparse(call)
    return method(call, "cuda") or not any(each in words for each in ("float", "double", "half", "long", "int"))


def _of_model(program: Program, call: ast.Call) -> bool:
    """Whether it moves the network and not a batch; where neither is sure, whether its name is no batch's."""
    assert isinstance(call.func, ast.Attribute)
    given = call.func.value
    devices = program.origins(argument(call, 0, "device")) if method(call, "to") else []
    if devices and all(isinstance(each, ast.Constant) and each.value in (None, "cpu") for each in devices):
        return False
    if is_model(program, given):
        return True
    name = ast.unparse(given).lower()
    return isinstance(given, ast.Call) or any(word in name for word in ("model", "net", "self", "module"))


def _elsewhere(program: Program) -> bool:
    """Whether something else than the script moves the model, or everything."""
    names = {program.name(call.func) for call in program.calls}
    movers = ("set_default_device", "set_default_tensor_type", "Accelerator", "Trainer", "Learner", "prepare")
    return any(name.endswith(movers) for name in names)


def _demands_cuda(program: Program, call: ast.Call) -> bool:
    """Whether nothing asks first whether there is a GPU."""
    if method(call, "cuda"):
        wanted = True
    else:
        origins = program.origins(argument(call, 0, "device"))
        wanted = bool(origins) and all(_is_cuda(program, each) for each in origins)
    return wanted and not any(_asks(each) for each in _conditions(program, call))


def _is_cuda(program: Program, node: ast.expr) -> bool:
    if program.is_call(node, "torch.device") and isinstance(node, ast.Call):
        inner = program.origins(argument(node, 0, "type"))
        return bool(inner) and all(_is_cuda(program, each) for each in inner) and not _guarded(program, node)
    value = constant(node)
    return isinstance(value, str) and value.startswith("cuda") and not _guarded(program, node)


def _guarded(program: Program, node: ast.AST) -> bool:
    return any(_asks(each) for each in _conditions(program, node))


def _conditions(program: Program, node: ast.AST) -> Iterator[ast.AST]:
    """What is asked before the node is come to: around it, around the calls of its function, by an early return."""
    for each in program.above(node):
        if isinstance(each, ast.If | ast.IfExp | ast.While | ast.Assert):
            yield each.test
        elif isinstance(each, ast.Try):
            yield each
        elif isinstance(each, Function):
            for call in program.callers(each):
                yield from (above.test for above in program.above(call) if isinstance(above, ast.If | ast.IfExp))


def _asks(test: ast.AST) -> bool:
    if isinstance(test, ast.Try):
        return bool(test.handlers)
    words = ast.unparse(test).lower()
    return any(word in words for word in ("cuda", "gpu", "device"))
