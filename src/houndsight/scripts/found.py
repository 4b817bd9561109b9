"""Findings of one script from several sides in one list; used while it runs and when it has ended."""

from collections.abc import Sequence

from houndsight.spec import Finding

WATCHER = "watcher.json"
"""In the folder of records: how it stands with the watcher of the script (`state`, `error`, `steps`)."""


def joined(standing: Sequence[Finding], others: Sequence[Finding]) -> list[Finding]:
    """What the rules say with what else was found; a rule that found something before does not say all is well."""
    fired = {each.rule for each in others}
    return [*others, *(each for each in standing if each.status == "IssuesFound" or each.rule not in fired)]
