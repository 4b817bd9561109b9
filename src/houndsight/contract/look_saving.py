"""What the source tells of a script's model on its way from training to the answers: saved, loaded, built again."""

import ast
from collections.abc import Iterator

from houndsight.contract.look_code import Program
from houndsight.contract.look_data import answering
from houndsight.contract.look_found import issue
from houndsight.contract.look_models import Head, backbone, heads, holds, is_model, layers, pretrained
from houndsight.contract.look_source import Function, argument, constant, method
from houndsight.spec import Finding

_LAYERS = ("torch.nn.Linear", "torch.nn.Conv2d", "torch.nn.BatchNorm1d", "torch.nn.LayerNorm")
"""Layers with weights, whose order and sizes have to be those of the file."""


def saving_rules(program: Program, inference: Program | None) -> Iterator[Finding]:
    """All rules of this file."""
    whole = _whole(program)
    answers = program if inference is None else inference
    loading = answering(answers, "model_fn")
    nodes = [node for each in loading for node in answers.inside_function(each)]
    loads = [node for node in nodes if answers.is_call(node, "torch.load") and isinstance(node, ast.Call)]
    states = [node for node in nodes if method(node, "load_state_dict")]
    if whole:
        yield issue(
            program,
            "whole_module",
            "warning",
            whole,
            "{at}: the whole module is saved: it is a pickle that needs this very code and trust to be loaded.",
            "Type torch.save(model.state_dict(), ...) in its place.",
        )
    yield from _loading(
        answers, loads, states, bool(whole) and bool(_saves(program)) and len(whole) == len(_saves(program))
    )
    if inference is not None and loading:
        yield from _built(program, answers, loading)


def _saves(program: Program) -> list[ast.Call]:
    return [call for call in program.calls if program.name(call.func) == "torch.save"]


def _whole(program: Program) -> list[ast.Call]:
    """Calls that save a whole module."""
    found = []
    for call in _saves(program):
        given = argument(call, 0, "obj")
        origins = program.origins(given)
        if any(method(each, "state_dict") or isinstance(each, ast.Dict) for each in origins):
            continue
        named = isinstance(given, ast.Name) and given.id in ("model", "net", "network")
        if is_model(program, given) or (named and any(isinstance(each, ast.Name) for each in origins)):
            found.append(call)
    return found


def _loading(answers: Program, loads: list[ast.Call], states: list[ast.AST], whole: bool) -> Iterator[Finding]:
    bare = [call for call in loads if argument(call, 1, "map_location") is None]
    if bare:
        yield issue(
            answers,
            "map_location",
            "info",
            bare,
            "{at}: weights that were saved on a GPU cannot be loaded so on a machine without one.",
            "Add map_location=device.",
        )
    safe = [call for call in loads if constant(argument(call, None, "weights_only")) is not False]
    if whole and states and loads:
        yield issue(
            answers,
            "model_differs",
            "error",
            states,
            "{at}: load_state_dict is given a whole module, since that is what the training saves.",
            "Save model.state_dict() in the training script.",
        )
    elif whole and safe:
        yield issue(
            answers,
            "model_differs",
            "error",
            safe,
            "{at}: torch.load refuses the whole module that the training saves.",
            "Save model.state_dict() in the training script, or add weights_only=False where you trust the file.",
        )
    again = [call for call in pretrained(answers) if states and any(_reached(answers, call, each) for each in loads)]
    if again:
        yield issue(
            answers,
            "weights_again",
            "info",
            again,
            "{at}: the endpoint loads pretrained weights first, which its own file replaces at once.",
            "Type weights=None in the inference script.",
        )


def _reached(answers: Program, call: ast.Call, load: ast.Call) -> bool:
    """Whether the model_fn that loads the file builds the network, itself or by a function."""
    function = answers.scope(call)
    return function is answers.scope(load) or function in answering(answers, "model_fn")


def _built(program: Program, answers: Program, loading: list[Function]) -> Iterator[Finding]:
    """Networks that training and inference build differently."""
    trained = [call for call in program.calls if backbone(program, call)]
    served = [
        node for each in loading for node in answers.inside_function(each)
        if isinstance(node, ast.Call) and backbone(answers, node)
    ]  # fmt: skip
    if len(trained) != 1 or len(served) != 1:
        return
    one, other = backbone(program, trained[0]), backbone(answers, served[0])
    where = program.place(trained[0])
    if one != other:
        yield issue(
            answers,
            "model_differs",
            "error",
            served,
            f"{{at}}: the endpoint builds {other}, the training {one} ({where.file}, line {where.line}).",
            f"Build {one} in both.",
        )
        return
    there = [each for each in heads(program) if holds(program, each, trained[0])]
    here = [each for each in heads(answers) if holds(answers, each, served[0])]
    if len(there) == len(here) == 1:
        wanted, made = _shape(program, there[0]), _shape(answers, here[0])
        if wanted is not None and made is not None and not _fit(wanted, made):
            where = program.place(there[0].node)
            yield issue(
                answers,
                "model_differs",
                "error",
                [here[0].node],
                f"{{at}}: the endpoint's head is not that of the training ({where.file}, line {where.line}).",
                "Make the head the same in both.",
            )


Shape = tuple[str, list[tuple[int, str, object]]]


def _shape(program: Program, head: Head) -> Shape | None:
    """Attribute and the layers with weights: place, kind, outputs; None where a layer is not known."""
    origins = program.origins(head.value)
    if len(origins) != 1 or not isinstance(origins[0], ast.Call):
        return None
    members = layers(program, origins[0])
    single = not program.is_call(origins[0], "torch.nn.Sequential")
    found: list[tuple[int, str, object]] = []
    for place, each in enumerate(members):
        name = program.name(each.func) if isinstance(each, ast.Call) else ""
        if not name.startswith("torch.nn."):
            return None
        if name in _LAYERS and isinstance(each, ast.Call):
            outputs = argument(each, 1 if name in _LAYERS[:2] else 0, "out_features", "out_channels")
            found.append((-1 if single else place, name, constant(outputs)))
    return head.attribute, found


def _fit(one: Shape, other: Shape) -> bool:
    """Whether weights of one may fit the other; sizes that are not written out fit."""
    if one[0] != other[0] or len(one[1]) != len(other[1]):
        return False
    return all(
        a[:2] == b[:2] and (a[2] is None or b[2] is None or a[2] == b[2]) for a, b in zip(one[1], other[1], strict=True)
    )
