"""The last station of a tuning: its folder and its trials' jobs become one page and its JSON twin."""

import shlex

from houndsight.folders import TuningFolder
from houndsight.reports import html, numbers, tuning_charts
from houndsight.reports.chart import Chart
from houndsight.reports.tuning_page import Ranked, TuningPage, gather, plain
from houndsight.workspace import Workspace, atomic_write, write_json


def build(folder: TuningFolder, place: Workspace) -> None:
    """Write report.json and then report.html, each whole or not at all; needs no torch."""
    page = gather(folder, place)
    write_json(folder.report_data, page)
    text = render(page, place)
    with atomic_write(folder.report) as file:
        file.write(text.encode())


def render(page: TuningPage, place: Workspace) -> str:
    """The page as HTML."""
    drawn = tuning_charts.draw(page)
    searched = [each for each in page.trials if each.role in ("default", "search")]
    names = [each.name for each in page.axes]
    return html.fill(
        "tuning.html",
        drawn,
        place,
        page=page,
        names=names,
        searched=searched,
        after=[each for each in page.trials if each.role not in ("default", "search")],
        first=next((each for each in searched if each.place == 1), None),
        tied=sum(each.tied for each in searched),
        counts={state: sum(each.state == state for each in searched) for state in ("COMPLETED", "PRUNED", "FAILED")},
        value=lambda number: numbers.percent(number) if page.shares else numbers.number(number),
        cell=lambda each, name: plain(each.hyperparameters[name]) if name in each.hyperparameters else "–",
        next=_next(page, searched),
        sections=_sections(page, drawn),
    )


def _sections(page: TuningPage, drawn: dict[str, Chart]) -> list[tuple[str, str]]:
    there = {
        "findings": ("Findings", bool(page.findings)),
        "search": ("Search", bool(drawn)),
        "trials-section": ("Trials", bool(page.trials)),
    }
    return [(name, title) for name, (title, present) in there.items() if present]


def _next(page: TuningPage, searched: list[Ranked]) -> list[tuple[str, str]]:
    """(purpose, command) pairs."""
    found = []
    final = ((page.best or {}).get("final") or {}).get("job") or (page.best or {}).get("job")
    if final:
        found.append(
            ("Look at the final model" if page.final else "Look at the best trial", f"houndsight report {final}")
        )
        found.append(("Serve it", f"houndsight deploy {final}"))
    edge = next((each for each in page.findings if each.rule == "range_edge"), None)
    if edge is not None:
        wider = edge.repair.partition("--param ")[2].rstrip(".")
        found.append(
            (
                "Search on where the range ended",
                f"houndsight tune DATA --from {shlex.quote(page.tuning)} --param {wider}",
            )
        )
    if page.state in ("STOPPED", "FAILED") and searched:
        found.append(("Go on with the search", f"houndsight tune --resume {page.tuning}"))
    return found
