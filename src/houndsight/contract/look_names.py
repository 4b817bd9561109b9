"""What the source tells before anything runs: text that is no Python, names bound nowhere, arguments, seeds."""

import ast
import builtins
import symtable
from collections.abc import Iterator
from pathlib import Path

from houndsight.contract.look_code import Program
from houndsight.contract.look_found import at, issue
from houndsight.contract.look_source import Function, Module, Place, argument, method
from houndsight.spec import Finding

_GIVEN = frozenset(dir(builtins)) | {
    "__file__",
    "__name__",
    "__doc__",
    "__spec__",
    "__builtins__",
    "__path__",
    "__class__",
}
_SEEDS = ("manual_seed", "seed_everything", "set_seed", "manual_seed_all", "seed_torch", "fix_seed")


def no_python(folder: Path, file: str, error: SyntaxError) -> Finding:
    """The finding for a file that Python cannot read."""
    line = error.lineno or 1
    lines = (folder / file).read_bytes().decode(errors="replace").splitlines()
    code = lines[line - 1].strip()[:200] if 0 < line <= len(lines) else ""
    kind = type(error).__name__
    repair = {
        "TabError": "Indent with blanks only; an editor converts tabs into four blanks each.",
        "IndentationError": "Indent the line as those around it.",
    }.get(kind, "Correct the line; the mistake may stand in the one before.")
    return at("syntax", "error", [Place(file, line, code)], f"{{at}}: {kind}: {error.msg}.", repair)


def name_rules(program: Program) -> Iterator[Finding]:
    """Names, arguments, seeds."""
    yield from _unbound(program)
    yield from _arguments(program)
    trains = [call for call in program.calls if method(call, "backward")]
    seeds = any(program.name(call.func).rpartition(".")[2] in _SEEDS for call in program.calls)
    if trains and not seeds:
        yield issue(
            program,
            "no_seed",
            "info",
            trains[:1],
            "{at}: no seed is set, so no run can be had again.",
            "Call torch.manual_seed(0) before the model is made.",
        )


def _unbound(program: Program) -> Iterator[Finding]:
    for module in program.modules:
        for name, node in unbound(module):
            function = program.scope(node)
            called = isinstance(function, ast.Module) or _reached(program, function)
            yield issue(
                program,
                "unbound_name",
                "error" if called else "info",
                [node],
                f"{{at}}: nothing is called '{name}': this line raises a NameError when it is come to.",
                f"Define or import {name}.",
            )


def _reached(program: Program, function: ast.AST) -> bool:
    """Whether the function is named anywhere outside of itself, or is one of those that an endpoint calls."""
    name = getattr(function, "name", "")
    if name in ("model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn") or name.startswith("__"):
        return True
    for other in program.modules:
        for node in ast.walk(other.tree):
            named = (isinstance(node, ast.Name) and node.id == name) or (
                isinstance(node, ast.Attribute) and node.attr == name
            )
            if named and function not in program.above(node):
                return True
    return isinstance(program.parent.get(function), ast.ClassDef)


def unbound(module: Module) -> list[tuple[str, ast.Name]]:
    """Names that are read, and bound in no place where Python would look for them; the first line of each.

    Nothing is said of a file that imports with a star or fills its names otherwise.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and any(each.name == "*" for each in node.names):
            return []
        if isinstance(node, ast.Name) and node.id in ("globals", "exec", "locals", "vars"):
            return []
    try:
        top = symtable.symtable("\n".join(module.lines), module.file, "exec")
    except (SyntaxError, ValueError):
        return []
    bound = set(_GIVEN)
    bound.update(
        each.get_name() for each in top.get_symbols() if each.is_assigned() or each.is_imported() or each.is_namespace()
    )
    tables = [top]
    for table in tables:
        tables += table.get_children()
        bound.update(
            each.get_name()
            for each in table.get_symbols()
            if each.is_declared_global() and (each.is_assigned() or each.is_imported())
        )
    missing = {
        each.get_name()
        for table in tables
        for each in table.get_symbols()
        if each.is_referenced() and each.get_name() not in bound and (each.is_global() or table is top)
    }
    guarded = {
        id(inner)
        for each in ast.walk(module.tree)
        if isinstance(each, ast.Try) and _hears(each)
        for inner in ast.walk(each)
    }
    notes = {
        id(inner)
        for each in ast.walk(module.tree)
        for note in _annotations(each)
        for inner in ast.walk(note)
        if _future(module)
    }
    found: dict[str, ast.Name] = {}
    for node in sorted(
        (each for each in ast.walk(module.tree) if isinstance(each, ast.Name)), key=lambda each: each.lineno
    ):
        if node.id in missing and isinstance(node.ctx, ast.Load) and id(node) not in guarded and id(node) not in notes:
            found.setdefault(node.id, node)
    return list(found.items())


def _hears(node: ast.Try) -> bool:
    """Whether it catches a NameError."""
    for handler in node.handlers:
        text = "Exception" if handler.type is None else ast.unparse(handler.type)
        if any(each in text for each in ("NameError", "Exception")):
            return True
    return False


def _annotations(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, Function) and node.returns is not None:
        yield node.returns
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        yield node.annotation


def _future(module: Module) -> bool:
    return any(isinstance(each, ast.ImportFrom) and each.module == "__future__" for each in module.tree.body)


def _arguments(program: Program) -> Iterator[Finding]:
    """Arguments whose type does not make of the text what was meant."""
    for call in program.calls:
        if not method(call, "add_argument"):
            continue
        kind = argument(call, None, "type")
        name = next((str(each.value) for each in call.args if isinstance(each, ast.Constant)), "")
        if program.name(kind) in ("list", "tuple"):
            hosts = program.is_call(argument(call, None, "default") or call, "json.loads")
            yield issue(
                program,
                "argument_type",
                "info" if hosts else "warning",
                [call],
                f"{{at}}: type={program.name(kind)} makes letters of {name}: '[64, 32]' becomes '[', '6', '4', ...",
                "Type type=json.loads, or nargs='+' with type=int.",
            )
        elif program.name(kind) == "bool":
            yield issue(
                program,
                "argument_type",
                "warning",
                [call],
                f"{{at}}: type=bool makes True of every text that {name} is given, of 'False' too.",
                "Type type=lambda text: text.lower() in ('1', 'true', 'yes').",
            )
