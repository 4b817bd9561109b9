"""What the debugger takes and when, as frozen data; made from arguments or from another tool's configuration."""

import re
from functools import cached_property

from pydantic import Field

from houndsight.spec import Frozen

FIRST = 5
"""So many first steps are always saved: the beginning says most about loss, initialisation and inputs."""


class Schedule(Frozen):
    """Which steps of a mode are saved."""

    interval: int | None = Field(default=None, ge=1)
    """Save every so many steps; None lets the debugger choose within its budget."""
    start: int = Field(default=0, ge=0)
    """First step that may be saved."""
    end: int | None = Field(default=None, ge=0)
    """Step from which on nothing is saved."""
    steps: tuple[int, ...] = ()
    """Steps that are saved whatever the interval says."""

    def open(self, step: int) -> bool:
        """Whether the step lies between start and end."""
        return self.start <= step and (self.end is None or step < self.end)

    def saves(self, step: int, interval: int) -> bool:
        """Whether the step is saved, at the given interval where the schedule has none of its own."""
        return self.open(step) and (step % (self.interval or interval) == 0 or step in self.steps)


class Collection(Frozen):
    """Tensors that are taken together."""

    include: tuple[str, ...]
    """Regular expressions; a tensor belongs to it where one is found in its name."""
    modules: tuple[str, ...] = ()
    """Regular expressions; the inputs and outputs of modules in whose name one is found belong to it."""
    raw: bool = False
    """Write the tensors themselves beside their statistics."""

    @cached_property
    def _patterns(self) -> tuple[tuple[re.Pattern[str], ...], tuple[re.Pattern[str], ...]]:
        return tuple(map(re.compile, self.include)), tuple(map(re.compile, self.modules))

    def holds(self, tensor: str) -> bool:
        """Whether the tensor of that name belongs to it."""
        return any(each.search(tensor) for each in self._patterns[0]) or (
            tensor.startswith(("input/", "output/")) and self.wants(tensor.partition("/")[2].partition("#")[0])
        )

    def wants(self, module: str) -> bool:
        """Whether inputs and outputs of the module of that name belong to it."""
        return any(each.search(module) for each in self._patterns[1])


BUILT_IN = {
    "weights": Collection(include=(r"^weight/.*weight",)),
    "biases": Collection(include=(r"^weight/.*bias",)),
    "gradients": Collection(include=(r"^gradient/",)),
    "updates": Collection(include=(r"^update/",)),
    "distances": Collection(include=(r"^distance/",)),
    "buffers": Collection(include=(r"^buffer/",)),
    "activations": Collection(include=(r"^input/", r"^output/")),
    "inputs": Collection(include=(r"^inputs",)),
    "outputs": Collection(include=(r"^outputs$", r"^logits$")),
    "losses": Collection(include=(r"^loss",)),
    "all": Collection(include=("",)),
}
"""Names that stand for tensors wherever a collection may be named."""


class DebugSpec(Frozen):
    """What is taken of a training, when, and at what cost."""

    schedule: Schedule = Schedule()
    """When to save; for the modes that have no schedule of their own."""
    modes: dict[str, Schedule] = Field(default_factory=dict)
    """Mode (`train`, `valid`, `predict`, `global`) -> when to save in it."""
    collections: dict[str, Collection] = Field(default_factory=dict)
    """Further collections by name; what they hold is taken."""
    leave_out: tuple[str, ...] = ()
    """Regular expressions; tensors in whose names one is found are not taken."""
    budget: float = Field(default=0.01, gt=0.0, le=1.0)
    """Share of the training's CPU time that the debugger may take where it chooses the interval."""
    sample: int = Field(default=4096, ge=16, le=1 << 24)
    """Values of a larger tensor from which all statistics but l2 are estimated."""
    exact: bool = False
    """Take every statistic over all values; many times the cost."""
    raw: tuple[str, ...] = ()
    """Names of collections whose tensors themselves are written too."""
    flight: int = Field(default=64, ge=1, le=10_000)
    """Steps that the flight recorder remembers."""

    def of(self, mode: str) -> Schedule:
        """The schedule of a mode."""
        return self.modes.get(mode, self.schedule)

    def takes(self, tensor: str) -> bool:
        """Whether the tensor of that name is taken at all."""
        return not any(re.search(each, tensor) for each in self.leave_out)

    def wants(self, module: str) -> bool:
        """Whether a collection asks for the inputs and outputs of the module of that name."""
        return any(each.wants(module) for each in self.collections.values())

    def writes(self, tensor: str) -> bool:
        """Whether the tensor itself is written."""
        named = [{**BUILT_IN, **self.collections}[each] for each in self.raw]
        return any(each.holds(tensor) for each in named) or any(
            each.raw and each.holds(tensor) for each in self.collections.values()
        )
