"""Which charts a page has, in its order; between the page as data and the page as HTML."""

from houndsight.reports import course, outcome, usage
from houndsight.reports.chart import Chart
from houndsight.reports.page import Page


def draw(page: Page) -> dict[str, Chart]:
    """The charts by their id; what the job has not got has no chart."""
    drawn: list[Chart | None] = [*course.curve_charts(page.curves)]
    if page.time is not None:
        drawn.append(course.timeline(page.time))
    if page.speed is not None:
        drawn.append(usage.histogram(page.speed.histogram))
    if page.machine is not None:
        drawn += usage.machine(page.machine)
    if page.results:
        drawn += [outcome.confusion(page.results[0]), outcome.reliability(page.results[0])]
    return {each.id: each for each in drawn if each is not None}
