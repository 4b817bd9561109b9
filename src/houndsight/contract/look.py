"""A look at a script before it is run: its source is read as text, and what is known to go wrong is told with its line.

Nothing of the script is imported or executed. The look is beside the way: it never stops a job, and a mistake in a file
that Python cannot read is told like everything else. What the rules find while the script runs is in `findings.json`
together with this (`look_found.merged`).
"""

import ast
import logging
from collections.abc import Sequence
from pathlib import Path

from houndsight.contract.look_code import Program
from houndsight.contract.look_evaluation import answer_rules, evaluation_rules
from houndsight.contract.look_found import in_order
from houndsight.contract.look_names import name_rules, no_python
from houndsight.contract.look_network import device_rules, network_rules
from houndsight.contract.look_saving import saving_rules
from houndsight.contract.look_source import MOST_FILES, Module, read
from houndsight.contract.look_transforms import transform_rules
from houndsight.spec import Finding

log = logging.getLogger("houndsight")

HANDLERS = ("model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn")
MOST_SAID = 5
"""Most sentences at the head of a log."""


def look(
    code: Path, entry_point: str, *, cores: int, gpus: int, inference: Path | None = None, tuned: str = ""
) -> list[Finding]:
    """What the source of the script `entry_point` in the folder `code` tells, errors first.

    `cores` and `gpus` are those of the machine that it is to run on. `inference` is the script that is to answer for
    its model; without one it is looked for beside the script. `tuned` is the regular expression of the metric by which
    a tuning chooses. A script that is not Python has no findings.
    """
    if not entry_point.endswith(".py"):
        return []
    modules, findings = _read(code, entry_point)
    program = Program(modules) if modules else None
    answers: Program | None = None
    other = inference if inference is not None else beside(code, entry_point)
    if other is not None and not (other.parent == code and other.name == entry_point):
        read_, broken = _read(other.parent, other.name)
        findings += broken
        answers = Program(read_) if read_ else None
    if program is not None:
        findings += name_rules(program)
        findings += transform_rules(program, answers, cores, gpus)
        findings += network_rules(program, gpus)
        findings += evaluation_rules(program, tuned, entry_point)
        findings += saving_rules(program, answers)
    answering = program if answers is None else answers
    if answering is not None:
        findings += answer_rules(answering)
    if answers is not None:
        findings += [each for each in name_rules(answers) if each.rule != "no_seed"]
        findings += device_rules(answers, gpus, training=False)
    return in_order(_once(findings))


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """One finding a rule and message."""
    return list({(each.rule, each.message): each for each in findings}.values())


def beside(code: Path, entry_point: str) -> Path | None:
    """The script beside another that answers for its model: the only one that defines a handler, or `inference.py`."""
    folder = (code / entry_point).parent
    found = []
    for path in sorted(folder.glob("*.py"))[:MOST_FILES]:
        if path.name != Path(entry_point).name and path.is_file() and path.stat().st_size < 1 << 20:
            text = path.read_text(encoding="utf-8", errors="replace")
            if any(f"def {name}" in text for name in HANDLERS):
                found.append(path)
    named = [path for path in found if path.name == "inference.py"]
    if len(found) == 1 or named:
        return (named or found)[0]
    return None


def _read(code: Path, entry_point: str) -> tuple[list[Module], list[Finding]]:
    """The script and what it imports from its own folder; and the files that are no Python."""
    modules: list[Module] = []
    findings: list[Finding] = []
    left, seen = [entry_point], {entry_point}
    while left and len(seen) <= MOST_FILES:
        file = left.pop(0)
        try:
            module = read(code, file)
        except SyntaxError as error:
            findings.append(no_python(code, file, error))
            continue
        except OSError as error:
            log.debug("%s was not looked at: %s", file, error)
            continue
        modules.append(module)
        for name in _imported(module):
            for each in (f"{name}.py", f"{name}/__init__.py"):
                if each not in seen and (code / each).is_file():
                    seen.add(each)
                    left.append(each)
    return modules, findings


def _imported(module: Module) -> list[str]:
    """Paths without suffix of what the file may import from its own folder."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found += [base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)]
    return [each.replace(".", "/") for each in found if each]


def sentences(findings: Sequence[Finding]) -> list[str]:
    """What a log begins with: at most `MOST_SAID` sentences, the worst first, none for what is only to be known."""
    worth = [each for each in in_order(findings) if each.severity != "info"]
    said = [f"{each.message} {each.repair}" for each in worth[:MOST_SAID]]
    if len(worth) > MOST_SAID:
        said[-1] = f"{len(worth) - MOST_SAID + 1} more are in the report."
    return said
