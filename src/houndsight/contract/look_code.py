"""A script's source as a tree that can be asked where a value comes from; what the rules of `look` stand on.

Nothing is run or imported. A value is followed through assignments, parameters, returns and files that the script
imports from its own folder; what cannot be followed stays as it stands, and no rule speaks of it.
"""

import ast
from collections.abc import Iterator

from houndsight.contract.look_source import Function, Module, Place, argument, imported, same_block

MOST_STEPS = 400
"""Most values that are looked at for one question: a script that is a maze is left alone."""
_SAME = frozenset({"to", "cuda", "cpu", "eval", "train", "float", "double", "half", "requires_grad_", "share_memory"})
"""Methods of a module or tensor that return what they were asked of."""
_AROUND = frozenset(
    {
        *("torch.nn.DataParallel", "torch.nn.parallel.DistributedDataParallel", "torch.compile", "torch.jit.script"),
        *("enumerate", "iter", "next", "list", "tuple", "tqdm.tqdm", "tqdm", "tqdm.auto.tqdm", "tqdm.notebook.tqdm"),
    }
)
"""Calls whose first argument is what comes out, as far as the rules care."""


class Program:
    """Some files of one folder, the first of them the entry point."""

    def __init__(self, modules: list[Module]) -> None:
        self.modules = modules
        self.parent: dict[ast.AST, ast.AST] = {}
        self.nodes: list[ast.AST] = []
        self._module: dict[ast.AST, Module] = {}
        self._names: dict[Module, dict[str, str]] = {}
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self._bound: dict[tuple[ast.AST, str], list[tuple[ast.expr, int | None]]] = {}
        self._inside: dict[Function, list[ast.AST]] = {}
        for module in modules:
            self._enter(module)
        self.calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        self._callers: dict[str, list[ast.Call]] = {}
        for call in self.calls:
            self._callers.setdefault(self.name(call.func), []).append(call)

    def _enter(self, module: Module) -> None:
        names = self._names[module] = {}
        self._module[module.tree] = module
        for node in ast.walk(module.tree):
            self.nodes.append(node)
            for child in ast.iter_child_nodes(node):
                self.parent[child] = node
            names.update(imported(node))
        for node in ast.walk(module.tree):
            if isinstance(node, Function | ast.ClassDef):
                name = f"{module.name}.{node.name}"
                if isinstance(self.parent[node], ast.ClassDef):
                    name = f"{module.name}.{self._class_name(node)}.{node.name}"
                else:
                    names[node.name] = name
                if isinstance(node, ast.ClassDef):
                    self.classes[name] = node
                else:
                    self.functions[name] = node
            else:
                self._bind(node)

    def _class_name(self, node: ast.AST) -> str:
        above = self.parent[node]
        return above.name if isinstance(above, ast.ClassDef) else ""

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind_target(target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            self._bind_target(node.target, node.value)
        elif isinstance(node, ast.With):
            for item in node.items:
                if item.optional_vars is not None:
                    self._bind_target(item.optional_vars, item.context_expr)

    def _bind_target(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            for place, each in enumerate(target.elts):
                if len(values) == len(target.elts):
                    self._bind_target(each, values[place])
                elif isinstance(each, ast.Name):
                    self._bound.setdefault((self.scope(each), each.id), []).append((value, place))
        elif isinstance(target, ast.Name):
            self._bound.setdefault((self.scope(target), target.id), []).append((value, None))
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            owner = self.within(target, ast.ClassDef) if target.value.id == "self" else None
            key = (owner or self.scope(target), f"{target.value.id}.{target.attr}")
            self._bound.setdefault(key, []).append((value, None))

    # ------------------------------------------------------------------------------------ where a node stands

    def module(self, node: ast.AST) -> Module:
        """The file it stands in."""
        while node in self.parent:
            node = self.parent[node]
        return self._module[node]

    def place(self, node: ast.AST) -> Place:
        """Its line."""
        module, line = self.module(node), getattr(node, "lineno", 1)
        code = module.lines[line - 1].strip() if line <= len(module.lines) else ""
        return Place(module.file, line, code[:200])

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """What it stands in, from within."""
        while node in self.parent:
            node = self.parent[node]
            yield node

    def within(self, node: ast.AST, *kinds: type[ast.AST]) -> ast.AST | None:
        """The nearest of these kinds that it stands in."""
        return next((each for each in self.above(node) if isinstance(each, kinds)), None)

    def scope(self, node: ast.AST) -> ast.AST:
        """The function or the file whose names it sees first."""
        found = self.within(node, ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)
        return found if found is not None else node

    def name(self, node: ast.AST | None) -> str:
        """Its dotted name with imports undone (`nn.Linear` is `torch.nn.Linear`); empty where it has none."""
        if isinstance(node, ast.Name):
            return self._names[self.module(node)].get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self.name(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def callers(self, function: Function) -> list[ast.Call]:
        """The calls of a function by its name, and of a method by `self`."""
        name = next((name for name, each in self.functions.items() if each is function), "")
        found = self._callers.get(name, [])
        owner = self.within(function, ast.ClassDef)
        if isinstance(owner, ast.ClassDef):
            return [
                each
                for each in self._callers.get(f"self.{function.name}", [])
                if self.within(each, ast.ClassDef) is owner
            ]
        return found

    def function(self, call: ast.Call) -> Function | None:
        """The function of these files that it calls."""
        name = self.name(call.func)
        if name.startswith("self."):
            owner = self.within(call, ast.ClassDef)
            if isinstance(owner, ast.ClassDef):
                name = f"{self.module(call).name}.{owner.name}.{name[5:]}"
        return self.functions.get(name)

    def inside(self, node: ast.AST) -> Iterator[ast.AST]:
        """The node and all in it, but not what functions within it hold."""
        yield node
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
                yield from self.inside(child)

    # ------------------------------------------------------------------------------------ where a value comes from

    def origins(self, node: ast.AST | None) -> list[ast.expr]:
        """Every expression that the value may come from; the expression itself where nothing is known."""
        found: list[ast.expr] = []
        seen: set[tuple[ast.AST, int | None]] = set()
        if isinstance(node, ast.expr):
            self._follow(node, None, seen, found)
        return list(dict.fromkeys(found))

    def _follow(
        self, node: ast.expr, index: int | None, seen: set[tuple[ast.AST, int | None]], found: list[ast.expr]
    ) -> None:
        if (node, index) in seen or len(seen) > MOST_STEPS:
            return
        seen.add((node, index))
        next_: list[tuple[ast.expr, int | None]] = []
        if isinstance(node, ast.Name):
            next_ = [(value, place if index is None else index) for value, place in self.bound(node)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and index is None:
            owner = self.within(node, ast.ClassDef) if node.value.id == "self" else None
            next_ = self._bound.get((owner or self.scope(node), f"{node.value.id}.{node.attr}"), [])
        elif isinstance(node, ast.IfExp):
            next_ = [(node.body, index), (node.orelse, index)]
        elif isinstance(node, ast.Tuple | ast.List) and index is not None and index < len(node.elts):
            next_ = [(node.elts[index], None)]
        elif isinstance(node, ast.Subscript):
            next_ = [(each, index) for each in self._element(node)]
        elif isinstance(node, ast.Call):
            next_ = [(each, index) for each in self._through(node)]
        if not next_:
            found.append(node)
        for value, place in next_:
            self._follow(value, place, seen, found)

    def bound(self, node: ast.Name) -> list[tuple[ast.expr, int | None]]:
        """What is assigned to the name: here, by callers, in the file, in the file that it is imported from."""
        scope = self.scope(node)
        here, certain = self._reaching(node, self._bound.get((scope, node.id), []))
        if isinstance(scope, Function) and not certain:
            parameters = [*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs]
            if any(each.arg == node.id for each in parameters):
                return here + [(value, None) for value in self._given(scope, node.id)]
        if here:
            return here
        for outer in self.above(scope):
            if isinstance(outer, Function | ast.Module) and (outer, node.id) in self._bound:
                return self._bound[outer, node.id]
        module, _, attribute = self.name(node).rpartition(".")
        other = next((each for each in self.modules if each.name == module), None)
        return self._bound.get((other.tree, attribute), []) if other else []

    def _reaching(
        self, use: ast.Name, bindings: list[tuple[ast.expr, int | None]]
    ) -> tuple[list[tuple[ast.expr, int | None]], bool]:
        """The assignments that may have made the value at its use, and whether one of them surely has.

        The last one that stands before it in the same block, or in one around it, hides those before.
        """
        around = [use, *self.above(use)]
        own = next((each for each in around if isinstance(each, ast.stmt)), use)
        before, last = [], -1
        for binding in bindings:
            statement = next(each for each in self.above(binding[0]) if isinstance(each, ast.stmt))
            if statement is own or statement.lineno >= getattr(own, "lineno", 0):
                continue
            before.append((statement.lineno, binding))
            if any(same_block(self.parent[statement], statement, each) for each in around):
                last = max(last, statement.lineno)
        if last >= 0:
            return [binding for line, binding in before if line >= last], True
        loops = any(isinstance(each, ast.For | ast.While) for each in around)
        return (list(bindings) if loops or not before else [binding for _, binding in before]), False

    def _given(self, function: Function, parameter: str) -> list[ast.expr]:
        """What callers give for a parameter, and its default where one of them gives nothing."""
        names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        method = bool(names) and names[0] in ("self", "cls")
        given: list[ast.expr] = []
        callers = self.callers(function)
        for call in callers:
            value = argument(call, names.index(parameter) - method if parameter in names else None, parameter)
            if value is not None:
                given.append(value)
        defaults = dict(zip(reversed(names), reversed(function.args.defaults), strict=False))
        if len(given) < max(1, len(callers)) and parameter in defaults:
            given.append(defaults[parameter])
        return given

    def _element(self, node: ast.Subscript) -> list[ast.expr]:
        """What a subscript of a dictionary or list that stands in the file may be."""
        found: list[ast.expr] = []
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        for base in self.origins(node.value):
            if isinstance(base, ast.Dict):
                pairs = zip(base.keys, base.values, strict=True)
                found += [v for k, v in pairs if key is None or (isinstance(k, ast.Constant) and k.value == key)]
            elif isinstance(base, ast.DictComp):
                found.append(base.value)
            elif (
                isinstance(base, ast.Tuple | ast.List)
                and isinstance(key, int)
                and -len(base.elts) <= key < len(base.elts)
            ):
                found.append(base.elts[key])
        return found

    def _through(self, call: ast.Call) -> list[ast.expr]:
        """What a call returns where that is one of its own values, or what a function of these files returns."""
        if (
            isinstance(call.func, ast.Attribute)
            and call.func.attr in _SAME
            and not self.functions.get(self.name(call.func))
        ):
            return [call.func.value]
        name = self.name(call.func)
        if name in _AROUND:
            return call.args[:1]
        function = self.function(call)
        if function is None:
            return []
        return [each.value for each in self.inside_function(function) if isinstance(each, ast.Return) and each.value]

    def inside_function(self, function: Function) -> list[ast.AST]:
        """All in a function but for functions within it."""
        if function not in self._inside:
            self._inside[function] = [node for statement in function.body for node in self.inside(statement)]
        return self._inside[function]

    def is_call(self, node: ast.AST, *names: str) -> bool:
        """Whether it calls one of these, by their full names."""
        return isinstance(node, ast.Call) and self.name(node.func) in names

    def comes_from(self, node: ast.AST | None, *names: str) -> bool:
        """Whether the value may come from a call of one of these."""
        return any(self.is_call(each, *names) for each in self.origins(node))
