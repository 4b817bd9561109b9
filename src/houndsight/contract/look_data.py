"""The data of a script as its source tells them: loaders, the splits that they read, the transforms of their images."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from houndsight.contract.look_code import Program
from houndsight.contract.look_source import Function, argument, constant, words_of

LOADERS = ("torch.utils.data.DataLoader", "torch.utils.data.dataloader.DataLoader")
_TRANSFORMS = re.compile(r"torchvision\.transforms(\.v2|\.transforms|\.functional|\.v2\.functional)*\.(\w+)$")
_SPLITS = (
    ("test", re.compile(r"(^|[^a-z])(test|testing)([^a-z]|$)")),
    ("valid", re.compile(r"(^|[^a-z])(valid|validation|val|dev|eval)([^a-z]|$)")),
    ("train", re.compile(r"(^|[^a-z])(train|training)([^a-z]|$)")),
)
RANDOM = frozenset(
    {
        *("RandomResizedCrop", "RandomCrop", "RandomHorizontalFlip", "RandomVerticalFlip", "RandomRotation"),
        *("RandomAffine", "RandomPerspective", "RandomErasing", "ColorJitter", "RandomGrayscale", "RandAugment"),
        *("AutoAugment", "TrivialAugmentWide", "AugMix", "RandomApply", "RandomChoice", "RandomAdjustSharpness"),
        *("RandomZoomOut", "RandomIoUCrop", "RandomInvert", "RandomPosterize", "RandomSolarize"),
    }
)
"""Transforms whose result is another one each time."""
_SIZED = ("Resize", "CenterCrop", "RandomResizedCrop", "RandomCrop", "FiveCrop")
TENSOR = ("ToTensor", "PILToTensor", "ToImage", "ToDtype", "to_tensor")


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Transforms one behind the other."""

    node: ast.expr
    steps: tuple[tuple[str, ast.Call], ...]
    whole: bool
    """Whether all of its steps are known."""

    @property
    def names(self) -> list[str]:
        """Names of the transforms."""
        return [name for name, _ in self.steps]

    def step(self, *names: str) -> ast.Call | None:
        """The last step of one of these names."""
        return next((call for name, call in reversed(self.steps) if name in names), None)

    def normalises(self) -> tuple[object, object] | None:
        """Mean and deviation; None where it does not normalise, constants None where they are not written out."""
        call = self.step("Normalize", "normalize")
        if call is None:
            return None
        return constant(argument(call, 0, "mean")), constant(argument(call, 1, "std"))

    def size(self) -> tuple[int, int] | None:
        """Height and width of what comes out; None where that depends on the image or cannot be read."""
        for name, call in reversed(self.steps):
            if name in _SIZED:
                size = constant(argument(call, 0, "size"))
                if isinstance(size, int) and name != "Resize":
                    return size, size
                if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(each, int) for each in size):
                    return size[0], size[1]
                return None
        return None


@dataclass(frozen=True, eq=False)
class Loader:
    """A DataLoader."""

    call: ast.Call
    split: str
    """train, valid, test; empty where that cannot be told."""
    pipelines: tuple[Pipeline, ...]


def transform_name(program: Program, node: ast.AST) -> str:
    """Name of the transform of torchvision that it calls, else empty."""
    found = _TRANSFORMS.match(program.name(node.func)) if isinstance(node, ast.Call) else None
    return found.group(2) if found else ""


def pipeline(program: Program, node: ast.AST) -> Pipeline | None:
    """The transforms of a `Compose`, an `nn.Sequential` of transforms, or a single transform; None for all else."""
    name = transform_name(program, node)
    if (not name and not program.is_call(node, "torch.nn.Sequential")) or not isinstance(node, ast.Call):
        return None
    if name not in ("Compose", ""):
        return Pipeline(node, ((name, node),), True)
    given: list[ast.expr] = list(node.args) if not name else []
    if name:
        for origin in program.origins(argument(node, 0, "transforms")):
            given += origin.elts if isinstance(origin, ast.List | ast.Tuple) else [origin]
    steps: list[tuple[str, ast.Call]] = []
    whole = True
    for each in given:
        origins = program.origins(each)
        found = pipeline(program, origins[0]) if len(origins) == 1 else None
        whole = whole and found is not None and found.whole
        steps += found.steps if found else ()
    return Pipeline(node, tuple(steps), whole) if steps else None


def split_of(program: Program, node: ast.AST | None, depth: int = 3) -> str:
    """Which split an expression names: by its own words, the later ones first, then by where its names come from."""
    if node is None:
        return ""
    for word in reversed(list(words_of(node))):
        spoken = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()
        for split, expression in _SPLITS:
            if expression.search(spoken.replace("sm_channel_", "").replace("training_job", "")):
                return split
    if depth:
        for each in ast.walk(node):
            if isinstance(each, ast.Name):
                for value, _ in program.bound(each):
                    found = split_of(program, value, depth - 1)
                    if found:
                        return found
    return ""


def loaders(program: Program) -> list[Loader]:
    """Every DataLoader of the script."""
    found = []
    for call in program.calls:
        if program.name(call.func) in LOADERS:
            given = argument(call, 0, "dataset")
            sets = [each for each in program.origins(given) if isinstance(each, ast.Call)]
            pipelines = [each for dataset in sets for each in dataset_pipelines(program, dataset)]
            found.append(Loader(call, _split(program, call, given, sets), tuple(dict.fromkeys(pipelines))))
    return found


def _split(program: Program, call: ast.Call, given: ast.expr | None, sets: list[ast.Call]) -> str:
    """By the folder of its images, else by its own name, else by its data's name."""
    for dataset in sets:
        folder = argument(dataset, 0, "root")
        for each in [folder, *program.origins(folder)]:
            found = split_of(program, each, 1)
            if found == "train" and isinstance(each, ast.expr) and constant(argument(dataset, 1, "train")) is False:
                found = "test"
            if found:
                return found
    target = program.parent.get(call)
    if isinstance(target, ast.Assign):
        found = split_of(program, target.targets[0], 0)
        if found:
            return found
    return split_of(program, given, 0)


def dataset_pipelines(program: Program, dataset: ast.Call) -> Iterator[Pipeline]:
    """The transforms that a data set is given."""
    given = argument(dataset, 1 if program.name(dataset.func).endswith("ImageFolder") else None, "transform")
    for origin in program.origins(given):
        found = pipeline(program, origin)
        if found is not None:
            yield found


def evaluation_pipelines(found: list[Loader]) -> list[Pipeline]:
    """The transforms of test and validation; none where neither is told apart from training."""
    for split in ("test", "valid"):
        chosen = [each for loader in found if loader.split == split for each in loader.pipelines]
        if len(set(chosen)) == 1:
            return chosen[:1]
    return []


def answering_pipelines(program: Program) -> list[Pipeline]:
    """The transforms of the functions that answer requests, and of what they call; single ones together as one."""
    found: list[Pipeline] = []
    alone: list[tuple[str, ast.Call]] = []
    for function in answering(program, "input_fn", "predict_fn", "transform_fn"):
        for node in program.inside_function(function):
            if not isinstance(node, ast.Call):
                continue
            for origin in [node, *program.origins(node.func)]:
                made = pipeline(program, origin)
                if made is None or isinstance(program.parent.get(origin), ast.List | ast.Tuple):
                    continue
                if made.node is origin and transform_name(program, origin) not in ("Compose", ""):
                    alone += made.steps
                else:
                    found.append(made)
    if alone and not found:
        found.append(Pipeline(alone[0][1], tuple(dict.fromkeys(alone)), True))
    return list({each.node: each for each in found}.values())


def answering(program: Program, *names: str) -> list[Function]:
    """The handlers of these names, and the functions of the same files that they call."""
    found = [
        each
        for name, each in program.functions.items()
        if name.rpartition(".")[2] in names and isinstance(program.parent[each], ast.Module)
    ]
    for function in found:
        for node in program.inside_function(function):
            called = program.function(node) if isinstance(node, ast.Call) else None
            if called is not None and called not in found:
                found.append(called)
    return found
