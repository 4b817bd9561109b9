"""Predict a whole folder into one CSV, in this process: bounded memory, and the same call again goes on where it was.

    path, class, probability, class_2, probability_2, ..., error

A row an image, in the order of the paths. Beside it stands `<output>.json`: which model made it, and the sums.
"""

import csv
import fcntl
import io
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from houndsight.data import images, walk
from houndsight.errors import DataError, ImageError, SpecError, WorkspaceError
from houndsight.results import ModelCard
from houndsight.spec import Frozen
from houndsight.verbs.models import find_model
from houndsight.workspace import Progress, Workspace, friendly_disk_errors, write_json

if TYPE_CHECKING:
    from houndsight.serving.predictor import Predictor

log = logging.getLogger("houndsight")

CHUNK = 8
"""Images that one thread decodes and predicts at a time; the batch that costs least an image (see `serving`)."""
AHEAD = 3
"""Chunks a thread that may wait for a slower one before them: rows are written in order."""
SHOWN = 20
"""Unreadable images that the summary names; the table has them all."""
_QUOTED = str.maketrans({"\n": "\\n", "\r": "\\r", "\0": "\\0"})


class Made(Frozen):
    """What a CSV of predictions was made of; `<output>.json`. Going on with anything else is refused."""

    format: int = 1
    """Version of the CSV's layout."""
    model: str
    """The model as it was named."""
    prepared: str
    """What identifies the model's bytes, the runtime and the machine that computes."""
    runtime: str
    """What computes."""
    top: int
    """How many classes a row names."""
    folder: str
    """Folder of the images."""


@dataclass
class Batched:
    """What came of it."""

    output: Path
    """The CSV."""
    images: int
    """Rows that it has."""
    fresh: int = 0
    """Rows that were added this time."""
    skipped: int = 0
    """Files of the folder that are not images by their names."""
    errors: int = 0
    """Rows of images that cannot be read, of those added this time."""
    unreadable: list[dict[str, str]] = field(default_factory=list)
    """Path and reason of the first of them."""
    seconds: float = 0.0
    """Time from the first image to the last."""
    cpu_seconds: float = 0.0
    """Processor time of it."""
    runtime: str = ""
    """What computed."""

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.fresh / self.seconds if self.seconds else 0.0

    def document(self) -> dict[str, Any]:
        """What `houndsight predict --output --json` prints."""
        rate = round(self.rate, 2)
        return {**asdict(self), "output": str(self.output), "images_per_second": rate}


def predict_folder(
    model: str | Path,
    folder: str | Path,
    output: str | Path,
    *,
    top: int = 5,
    workspace: str | Path | None = None,
    progress: Progress | None = None,
) -> Batched:
    """Write the `top` classes of every image below `folder` into the CSV `output`.

    Images that `output` has already are not done again, so a call that was killed is simply made again. An image that
    cannot be read has a row with its `error`. Raises `SpecError` where `output` was made by another model, and
    `WorkspaceError` where another process is writing it.
    """
    from houndsight.serving import prepare, prepared

    if top < 1:
        raise SpecError(f"One setting is wrong: top: must be 1 or more (got {top}).")
    root = Path(folder).expanduser().absolute()
    show = progress or _nothing
    show("list", 0, 0)
    files, skipped = _files(root)
    ready = prepare.prepare(find_model(model, workspace).absolute(), Workspace.find(workspace).cache)
    card = ModelCard.read(ready / "model.json")
    made = Made(
        model=str(model),
        prepared=ready.name,
        runtime=prepared.Prepared.read(ready / "prepared.json").runtime,
        top=min(top, len(card.classes)),
        folder=str(root),
    )
    result = fill(Path(output).expanduser().absolute(), made, files, lambda: prepared.open_model(ready), show)
    result.skipped = skipped
    return result


def fill(
    table: Path, made: Made, files: Sequence[str], opened: "Callable[[], Predictor]", progress: Progress
) -> Batched:
    """Add the rows of those `files` (paths below the folder of `made`) that `table` lacks, by `opened`'s predictor."""
    result = Batched(table, 0, runtime=made.runtime)
    with _opened(table, made) as (file, done):
        left = [path for path in files if _printed(path) not in done] if done else files
        result.images = len(done)
        del done
        if left:
            _run(opened(), Path(made.folder), left, file, result, made.top, progress)
    return result


def _nothing(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def _files(root: Path) -> tuple[list[str], int]:
    """Paths of the images below `root`, relative to it, in order; and how many other files there are."""
    if not root.is_dir():
        raise DataError(f"{root} is no folder.", "Give the folder of the images.")
    found: list[str] = []
    skipped = 0
    folders = deque([""])
    while folders:
        place = folders.popleft()
        inside = walk.listing(str(root / place))
        prefix = f"{place}/" if place else ""
        for name, entry in inside.files.items():
            if walk.refusal(entry, walk.status(entry)) is None:
                found.append(prefix + name)
            else:
                skipped += 1
        folders.extendleft(prefix + name for name in reversed(inside.folders) if name not in inside.links)
    if not found:
        raise DataError(f"There is no image in {root}.", f"Formats that are read: {walk.FORMATS}.")
    return found, skipped


# --------------------------------------------------------------------------------------------- the table


@contextmanager
def _opened(table: Path, made: Made) -> Iterator[tuple[IO[bytes], set[str]]]:
    """The table, ready to be added to, and the paths it has; a row that was cut off in the middle is taken back."""
    card = table.with_name(f"{table.name}.json")
    with friendly_disk_errors(table.parent):
        table.parent.mkdir(parents=True, exist_ok=True)
        if table.exists() and table.stat().st_size and not card.is_file():
            raise SpecError(f"{table} exists already, and is not of Houndsight's making.", "Choose another --output.")
        with open(table, "a+b") as file:
            _lock(file, table)
            if card.is_file() and file.tell():
                _compare(Made.read(card), made, table)
            else:
                file.truncate(0)
                write_json(card, made)
            done = _read(file, made.top)
            if not file.tell():
                file.write(_line(_head(made.top)))
                file.flush()
            yield file, done


def _lock(file: IO[bytes], table: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkspaceError(
            f"Another process is writing {table}.", "Wait for it, or choose another --output."
        ) from None


def _compare(before: Made, now: Made, table: Path) -> None:
    names = {"prepared": "model", "top": "--top", "folder": "folder of images", "format": "layout"}
    other = [word for name, word in names.items() if getattr(before, name) != getattr(now, name)]
    if other:
        raise SpecError(
            f"{table} was begun with another {' and another '.join(other)} "
            f"(model {before.model}, --top {before.top}, {before.folder}).",
            "Choose another --output, or delete it.",
        )


def _read(file: IO[bytes], top: int) -> set[str]:
    """The paths of all whole rows; leaves the file at its end, without a row that was cut off."""
    done: set[str] = set()
    end, width = 0, len(_head(top))
    file.seek(0)
    for number, line in enumerate(file):
        row = next(csv.reader([line.decode("utf-8", "replace")]), [])
        if not line.endswith(b"\n") or len(row) != width:
            break
        end += len(line)
        if number:
            done.add(row[0])
    file.truncate(end)
    file.seek(0, os.SEEK_END)
    return done


def _head(top: int) -> list[str]:
    further = [name for place in range(2, top + 1) for name in (f"class_{place}", f"probability_{place}")]
    return ["path", "class", "probability", *further, "error"]


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _printed(path: str) -> str:
    """A path as it stands in the table: one line, and UTF-8."""
    return walk.printable(path).translate(_QUOTED)


# ------------------------------------------------------------------------------------------- the images


def _run(
    predictor: "Predictor",
    root: Path,
    paths: Sequence[str],
    file: IO[bytes],
    result: Batched,
    top: int,
    progress: Progress,
) -> None:
    """Every thread reads, decodes and predicts a chunk at a time; rows are written in the order of the paths."""
    from houndsight.serving.prepared import cores

    threads = cores()
    start, cpu = time.monotonic(), time.process_time()
    waiting: deque[Future[list[tuple[list[str], str]]]] = deque()

    def write(rows: list[tuple[list[str], str]]) -> None:
        with friendly_disk_errors(result.output.parent):
            file.write(b"".join(_line(cells) for cells, _ in rows))
            file.flush()
        result.images += len(rows)
        result.fresh += len(rows)
        for cells, error in rows:
            if error:
                result.errors += 1
                if len(result.unreadable) < SHOWN:
                    result.unreadable.append({"path": cells[0], "error": error})
        result.seconds, result.cpu_seconds = time.monotonic() - start, time.process_time() - cpu
        progress("predict", result.fresh, len(paths))

    progress("predict", 0, len(paths))
    with ThreadPoolExecutor(threads, "predict") as pool:
        try:
            for at in range(0, len(paths), CHUNK):
                waiting.append(pool.submit(_chunk, predictor, root, paths[at : at + CHUNK], top))
                if len(waiting) > AHEAD * threads:
                    write(waiting.popleft().result())
            while waiting:
                write(waiting.popleft().result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _chunk(predictor: "Predictor", root: Path, paths: Sequence[str], top: int) -> list[tuple[list[str], str]]:
    """The rows of some images, each with its error or an empty string."""
    import numpy as np

    found: list[Any] = []
    for path in paths:
        try:
            found.append(predictor.decode(images.read(root / path)))
        except ImageError as error:
            found.append(error.message)
        except MemoryError:
            found.append("too large for the memory that is left")
    inputs = [each for each in found if not isinstance(each, str)]
    answers = iter(predictor.predict(np.stack(inputs)) if inputs else ())
    rows = []
    for path, each in zip(paths, found, strict=True):
        if isinstance(each, str):
            rows.append(([_printed(path), "", "", *[""] * (2 * (top - 1)), each.translate(_QUOTED)], each))
            continue
        best = predictor.encode(next(answers), top)
        cells = [cell for one in best for cell in (one["class"], f"{one['probability']:.6f}")]
        rows.append(([_printed(path), *cells, ""], ""))
    return rows
