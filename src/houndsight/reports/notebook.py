"""How jobs and findings show themselves in a notebook: a few lines of HTML that ask for nothing outside themselves."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from houndsight.reports.limits import CAUSES, WORTH
from houndsight.reports.numbers import duration, percent, plural
from houndsight.results import Measure, Verdict
from houndsight.spec import Finding, Status

MOST = 20
"""Most findings shown."""
COLOURS = {"error": "#b3261e", "warning": "#8f5b00", "info": "#5c606b"}
_MUTED = "color:#7c7f8a"


class Findings(list[Finding]):
    """A list of findings that a notebook shows as a table, what fired first."""

    def _repr_html_(self) -> str:
        rank = {"error": 0, "warning": 1, "info": 2}
        fired = sorted(self.fired, key=lambda each: rank[each.severity])
        rows = Markup("").join(map(_row, fired[:MOST]))
        more = f" {len(fired) - MOST} more are not shown." if len(fired) > MOST else ""
        calm = len(self) - len(fired)
        others = f", {plural(calm, 'rule')} without one" if calm else ""
        text = f"{plural(len(fired), 'finding')}{others}.{more}"
        return str(Markup("<p>{}</p><table><tbody>{}</tbody></table>").format(text, rows)) if rows else f"<p>{text}</p>"

    @property
    def fired(self) -> list[Finding]:
        """Those that found something, and rules that broke."""
        return [each for each in self if each.status in ("IssuesFound", "Error")]


def _row(finding: Finding) -> Markup:
    colour = COLOURS[finding.severity]
    repair = Markup('<br><span style="{}">{}</span>').format(_MUTED, finding.repair) if finding.repair else ""
    return Markup(
        '<tr><td style="text-align:left;color:{};white-space:nowrap;vertical-align:top"><b>{}</b></td>'
        '<td style="text-align:left">{}{}</td></tr>'
    ).format(colour, finding.rule.replace("_", " "), finding.message, repair)


def card(
    name: str,
    status: Status,
    metrics: Mapping[str, Mapping[str, Measure]],
    findings: Sequence[Finding],
    verdict: Verdict | None,
    report: str | None,
) -> str:
    """A job in a few lines: state, accuracy with its interval, what limited its speed, what rules found."""
    took = f" after {duration(status.ended - status.started)}" if status.ended and status.started else ""
    lines = [Markup("<b>{}</b>: {}{}").format(name, status.state, took)]
    for split, found in metrics.items():
        if "top1" in found:
            top1 = found["top1"]
            said = f"{percent(top1.value)} of {plural(top1.n, f'{split} image')} right"
            interval = f"95 % interval {percent(top1.low)} to {percent(top1.high)}"
            lines.append(Markup('{} <span style="{}">{}</span>').format(said, _MUTED, interval))
    if verdict is not None:
        gain = f", {verdict.gain:.1f} times as fast without it" if verdict.gain >= WORTH else ""
        lines.append(escape(f"Speed limited by: {CAUSES.get(verdict.cause, verdict.cause).lower()}{gain}"))
    if status.reason:
        lines.append(escape(status.reason))
    if report is not None:
        lines.append(Markup('<span style="{}">Page: {}</span>').format(_MUTED, report))
    fired = Findings(findings)
    shown = Markup(fired._repr_html_()) if fired.fired else Markup("")  # noqa: S704 - escaped where it was made
    return str(Markup("<div>{}</div>").format(Markup("<br>").join(lines)) + shown)
