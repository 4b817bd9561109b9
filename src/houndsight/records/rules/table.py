"""Every rule by name, in the order in which they are asked; the one place where a rule is added."""

from houndsight.records.rules.rule import Rule

RULES: tuple[type[Rule], ...] = ()
"""SageMaker's first, then ours."""

BY_NAME: dict[str, type[Rule]] = {each.name: each for each in RULES}
