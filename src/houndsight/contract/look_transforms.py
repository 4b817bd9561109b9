"""What the source tells of a script's images: normalised and cut how, in training and in the answers, and read."""

import ast
from collections.abc import Iterable, Iterator

from houndsight.contract.look_code import Program
from houndsight.contract.look_data import (
    RANDOM,
    TENSOR,
    Loader,
    Pipeline,
    answering_pipelines,
    evaluation_pipelines,
    loaders,
)
from houndsight.contract.look_found import issue
from houndsight.contract.look_models import own_class, pretrained
from houndsight.contract.look_source import argument, constant
from houndsight.spec import Finding

NORMALIZE = "transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_LARGEST_DIFFERENCE = 0.02
"""Means that differ by less are the same numbers rounded."""


def transform_rules(program: Program, inference: Program | None, cores: int, gpus: int) -> Iterator[Finding]:
    """All rules of this file."""
    found = loaders(program)
    yield from _normalisation(program, found)
    yield from _random_evaluation(program, found)
    yield from _workers(program, found, cores, gpus)
    yield from _order(program, found)
    yield from _truncated(program)
    answers = program if inference is None else inference
    yield from _answers(program, found, answers)


def _normalisation(program: Program, found: list[Loader]) -> Iterator[Finding]:
    """Images of a pretrained network that are not normalised, or otherwise than in its own training."""
    model = next(iter(pretrained(program)), None)
    chosen = {each.node: each for loader in found if loader.split in ("train", "") for each in loader.pipelines}
    made = [each for each in chosen.values() if each.whole and each.step(*TENSOR)]
    bare = [each for each in made if each.normalises() is None]
    if model is None:
        return
    if bare:
        yield issue(
            program,
            "input_preprocessing",
            "warning",
            [each.step(*TENSOR) or each.node for each in bare],
            "{at}: the images go into a pretrained network without the normalisation that it was trained with.",
            f"Add behind ToTensor(): {NORMALIZE}, and the same in the inference script.",
        )
        return
    other = [each for each in made if (held := numbers(each)) is not None and not _near(held, IMAGENET)]
    if other and program.name(model.func).startswith("torchvision."):
        yield issue(
            program,
            "input_preprocessing",
            "info",
            [each.step("Normalize", "normalize") or each.node for each in other],
            "{at}: the images are normalised otherwise than those that the weights were trained on.",
            f"Type {NORMALIZE}.",
        )


def numbers(made: Pipeline) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation as numbers; None where they are not written out."""
    held = made.normalises()
    if held is None or not all(isinstance(each, list | tuple) for each in held):
        return None
    mean, deviation = held
    assert isinstance(mean, list | tuple)
    assert isinstance(deviation, list | tuple)
    if not all(isinstance(each, int | float) for each in (*mean, *deviation)):
        return None
    return tuple(map(float, mean)), tuple(map(float, deviation))


def _near(one: tuple[tuple[float, ...], ...], other: tuple[tuple[float, ...], ...]) -> bool:
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(a, b, strict=False)]
    return all(abs(a - b) < _LARGEST_DIFFERENCE for a, b in pairs)


def _random_evaluation(program: Program, found: list[Loader]) -> Iterator[Finding]:
    chance = {
        call: name
        for loader in found
        if loader.split in ("test", "valid")
        for each in loader.pipelines
        for name, call in each.steps
        if name in RANDOM
    }
    if chance:
        yield issue(
            program,
            "random_evaluation",
            "warning",
            list(chance),
            f"{{at}}: {_listed(chance.values())} makes other images of the evaluation each time, so its numbers vary.",
            "Evaluate with transforms.Resize(256), transforms.CenterCrop(224) and no random transform.",
        )


def _workers(program: Program, found: list[Loader], cores: int, gpus: int) -> Iterator[Finding]:
    """Loaders that decode in the training's own process."""
    lazy = [
        each.call
        for each in found
        if (given := argument(each.call, 5, "num_workers")) is None or constant(given) == 0
        if not any(keyword.arg is None for keyword in each.call.keywords) and (each.pipelines or _opens(program, each))
    ]
    if not lazy or cores < 2:
        return
    workers = min(cores, 8)
    pinned = ", pin_memory=True" if gpus else ""
    waits = "the GPU waits while images are read" if gpus else "images are read while the training waits"
    yield issue(
        program,
        "loader_workers",
        "warning" if gpus else "info",
        lazy,
        f"{{at}}: the DataLoader has no workers, so {waits}; there are {cores} cores.",
        f"Add num_workers={workers}{pinned}, persistent_workers=True.",
    )


def _opens(program: Program, loader: Loader) -> bool:
    """Whether a data set of the script's own opens image files."""
    for origin in program.origins(argument(loader.call, 0, "dataset")):
        built = own_class(program, origin)
        if built is not None and any(each in ast.unparse(built) for each in ("Image.open(", "imread(", "read_image(")):
            return True
    return False


def _order(program: Program, found: list[Loader]) -> Iterator[Finding]:
    """Training images that always come class by class."""
    for each in found:
        call = each.call
        shuffled = argument(call, 2, "shuffle")
        if each.split != "train" or any(keyword.arg in (None, "sampler", "batch_sampler") for keyword in call.keywords):
            continue
        if shuffled is None or constant(shuffled) is False:
            if not any(program.is_call(each, *_FOLDERS) for each in program.origins(argument(call, 0, "dataset"))):
                continue
            yield issue(
                program,
                "not_shuffled",
                "warning",
                [call],
                "{at}: the training images come in the order of their folders, class by class.",
                "Add shuffle=True.",
            )


_FOLDERS = (
    "torchvision.datasets.ImageFolder",
    "torchvision.datasets.DatasetFolder",
    "torchvision.datasets.folder.ImageFolder",
)


def _truncated(program: Program) -> Iterator[Finding]:
    """A data set of files, and no word on what becomes of a truncated one."""
    folders = [call for call in program.calls if program.name(call.func) in _FOLDERS]
    said = any(isinstance(node, ast.Attribute) and node.attr == "LOAD_TRUNCATED_IMAGES" for node in program.nodes)
    own = any(keyword.arg == "loader" for call in folders for keyword in call.keywords)
    if folders and not said and not own:
        yield issue(
            program,
            "truncated_images",
            "info",
            folders[:1],
            "{at}: one truncated image file ends the training; nothing is set for it.",
            "Add: from PIL import ImageFile; ImageFile.LOAD_TRUNCATED_IMAGES = True. houndsight check names the file.",
        )


def _answers(program: Program, found: list[Loader], answers: Program) -> Iterator[Finding]:
    """Images that are made ready for an answer otherwise than for the training."""
    given = [each for each in answering_pipelines(answers) if each.whole]
    for made in given:
        random = {call: name for name, call in made.steps if name in RANDOM}
        if random:
            yield issue(
                answers,
                "random_inference",
                "warning",
                list(random),
                f"{{at}}: {_listed(random.values())} at inference gives another answer for the same image each time.",
                "Type transforms.Resize(256), transforms.CenterCrop(224) in its place.",
            )
    trained = evaluation_pipelines(found) or _only(found)
    if not trained or not trained[0].whole or len(given) != 1:
        return
    yield from _compared(program, answers, trained[0], given[0])


def _compared(program: Program, answers: Program, trained: Pipeline, answered: Pipeline) -> Iterator[Finding]:
    there, here = trained.normalises(), answered.normalises()
    where = program.place(trained.node)
    if (there is None) != (here is None) and answered.step(*TENSOR):
        yield issue(
            answers,
            "transforms_differ",
            "warning",
            [answered.node if here is None else (answered.step("Normalize", "normalize") or answered.node)],
            f"{{at}}: images are {'not ' if here is None else ''}normalised at inference, but in training they are"
            f"{' not' if there is None else ''} ({where.file}, line {where.line}).",
            f"Type the same in both: {_typed(trained) if there else NORMALIZE}.",
        )
    held, asked = numbers(trained), numbers(answered)
    if held is not None and asked is not None and not _near(held, asked):
        yield issue(
            answers,
            "transforms_differ",
            "warning",
            [answered.step("Normalize", "normalize") or answered.node],
            f"{{at}}: images are normalised by other numbers than in training ({where.file}, line {where.line}).",
            f"Type the same in both: {_typed(trained)}.",
        )
    size, wanted = answered.size(), trained.size()
    if size is not None and wanted is not None and size != wanted:
        yield issue(
            answers,
            "transforms_differ",
            "warning",
            [answered.node],
            f"{{at}}: images are {size[0]}x{size[1]} at inference and {wanted[0]}x{wanted[1]} in training "
            f"({where.file}, line {where.line}).",
            f"Make them {wanted[0]}x{wanted[1]} in both.",
        )


def _typed(made: Pipeline) -> str:
    call = made.step("Normalize", "normalize")
    return ast.unparse(call) if call is not None else NORMALIZE


def _only(found: list[Loader]) -> list[Pipeline]:
    """The one pipeline of all loaders."""
    chosen = {each.node: each for loader in found for each in loader.pipelines}
    return list(chosen.values()) if len(chosen) == 1 else []


def _listed(names: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(names))
