"""`houndsight check`: one page on what is wrong with the data."""

import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from houndsight.cli.flags import Json, Place
from houndsight.cli.follow import Bar
from houndsight.cli.output import document, duration, note
from houndsight.records.progress import Snapshot
from houndsight.spec import Finding
from houndsight.verbs import check as checking

FILES = 5
"""File names shown with a finding; all of them stand in `--json`."""
CLASSES = 12
"""Classes in the table: with more, only the smallest and largest of train."""
WIDTH = 100
_COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def check(
    data: Annotated[str, Parameter(help="Folder of class folders, CSV list, .zip, or http, https or s3 address.")],
    /,
    *,
    strict: Annotated[bool, Parameter(help="Exit with 1 where there is a warning or an error.")] = False,
    write: Annotated[
        Path | None, Parameter(metavar="CSV", help="Write the file list without what was found faulty.")
    ] = None,
    features: Annotated[bool, Parameter(help="Judge labels, copies and the floor by what a backbone sees.")] = False,
    backbone: Annotated[
        str | None, Parameter(metavar="NAME", help="Network for --features; by default the one that train takes.")
    ] = None,
    weights: Annotated[
        str | None, Parameter(metavar="FILE", help="Its weights: a file, or imagenet for those of the cache.")
    ] = None,
    split_seed: Annotated[int, Parameter(metavar="N", help="Seed of the split where the data has none.")] = 0,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Read every image, train nothing, and say what is wrong with the data.

    Found: unreadable files; empty, missing, unknown and misspelt classes; copies within a split, across splits and
    across classes; constant, tiny, huge, stretched and grey pictures; splits too small to tell models apart.
    With --features also: labels that look wrong, copies by what they show, and the floor that a training should reach.
    """
    with Bar(sys.stderr) as bar:
        result = checking.check(
            data,
            features=features,
            backbone=backbone,
            weights=weights,
            split_seed=split_seed,
            workspace=workspace,
            progress=Watch(bar),
        )
    cleaned = result.write(write) if write else None
    if json:
        document(result.document())
    else:
        _page(result)
    if cleaned:
        note(f"{write}: {len(cleaned.kept):,} files, {cleaned.left_out:,} left out. Next: houndsight train {write}")
    return 1 if strict and result.wrong else 0


class Watch:
    """Draws at most four times a second; fits `workspace.Progress`."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._drawn = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far the stage is."""
        now = time.monotonic()
        if now - self._drawn < 0.25 and done < total:
            return
        self._drawn = now
        if stage in {"check", "decode", "features"}:
            self._bar.show(Snapshot(stage, done, total))
        else:
            self._bar.step(stage, done, total)


def _page(result: checking.CheckResult) -> None:
    """The page: tables and colour on a terminal, plain lines elsewhere."""
    on_terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, highlight=False, width=None if on_terminal else 10_000)
    console.print(Text(_headline(result), style="bold" if on_terminal else ""), soft_wrap=True)
    if result.classes:
        (_rich_table if on_terminal else _plain_table)(console, *_rows(result))
    for finding in result.findings:
        _show(console, finding, on_terminal)
    counts = {severity: sum(each.severity == severity for each in result.findings) for severity in ("error", "warning")}
    said = ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items())
    console.print(Text(f"{said}; checked in {duration(result.seconds)}."), soft_wrap=True)


def _headline(result: checking.CheckResult) -> str:
    splits = ", ".join(f"{name} {each['images']:,}" for name, each in result.splits.items()) or "no images"
    made = f" (split made with seed {result.index.split_seed})" if result.index.split_seed is not None else ""
    return f"{result.index.root}: {len(result.classes):,} classes; {splits}{made}"


def _rows(result: checking.CheckResult) -> tuple[list[str], list[list[str]]]:
    """Head and rows of classes per split, smallest first; the middle ones as one line where they are many."""
    names = list(result.splits)
    by_size = sorted(result.classes.items(), key=lambda each: (sum(each[1].values()), each[0]))
    rows = [[name, *(f"{counts.get(split, 0):,}" for split in names)] for name, counts in by_size]
    if len(rows) > CLASSES:
        half = CLASSES // 2
        between = [f"... {len(rows) - 2 * half:,} classes between ...", *("" for _ in names)]
        rows = [*rows[:half], between, *rows[-half:]]
    return ["class", *names], rows


def _rich_table(console: Console, head: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _plain_table(console: Console, head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for first, *rest in [head, *rows]:
        numbers = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        console.print(Text("  ".join([first.ljust(widths[0]), *numbers]).rstrip()), soft_wrap=True)


def _show(console: Console, finding: Finding, on_terminal: bool) -> None:
    style = _COLOURS[finding.severity] if on_terminal else ""
    console.print(
        Text.assemble((finding.severity.upper(), style), f" {finding.rule}: {finding.message}"), soft_wrap=True
    )
    if finding.repair:
        console.print(Text(f"    {finding.repair}"), soft_wrap=True)
    for line in _examples(finding):
        console.print(Text(f"    {line}", style="dim" if on_terminal else ""), soft_wrap=True)


def _examples(finding: Finding) -> list[str]:
    """The first files, with their reason, or the first groups of copies, one a line."""
    groups = finding.evidence.get("groups")
    reasons = finding.evidence.get("reasons", {})
    every = (
        [" = ".join(group) for group in groups]
        if groups
        else [f"{path}: {reasons[path]}" if path in reasons else path for path in finding.files]
    )
    more = [f"... and {len(every) - FILES:,} more"] if len(every) > FILES else []
    return [*every[:FILES], *more]
