"""What `smdebug` raises, under its own names: scripts, notebooks and custom rules catch these by type."""
# ruff: noqa: N818 - the names are smdebug's

from enum import Enum


class ModeKeys(Enum):
    """What a step belongs to; GLOBAL counts all of them."""

    TRAIN = 1
    EVAL = 2
    PREDICT = 3
    GLOBAL = 4


class SMDebugError(Exception):
    """Whatever goes wrong in `smdebug`."""


class SMDebugCustomerError(SMDebugError):
    """The script asked for something that cannot be."""


class SMDebugTypeError(SMDebugError, TypeError):
    """An argument is of the wrong type."""


class SMDebugRuntimeError(SMDebugError, RuntimeError):
    """Something cannot go on."""


class SMDebugNotImplementedError(SMDebugError, NotImplementedError):
    """`smdebug` has it and Houndsight does not."""


class SMDebugValueError(SMDebugError, ValueError):
    """An argument has a wrong value."""


class InvalidCollectionConfiguration(SMDebugError):
    """A collection names no tensor and no regular expression."""

    def __init__(self, c_name: str) -> None:
        super().__init__(f"Collection {c_name} has not been configured: give tensor_names or include_regex.")
        self.c_name = c_name


class StepNotYetAvailable(SMDebugError):
    """The step may still come."""

    def __init__(self, step: int, mode: ModeKeys) -> None:
        super().__init__(f"Step {step} of mode {mode.name} not yet available")
        self.step, self.mode = step, mode


class StepUnavailable(SMDebugError):
    """The step was not saved and will not be."""

    def __init__(self, step: int, mode: ModeKeys) -> None:
        super().__init__(f"Step {step} of mode {mode.name} is not available as it was not saved")
        self.step, self.mode = step, mode


class TensorUnavailableForStep(SMDebugError):
    """The tensor itself was not saved at that step."""

    def __init__(self, tname: str, step: int, mode: ModeKeys = ModeKeys.GLOBAL, has_reductions: bool = False) -> None:
        also = " Reductions of it were saved for this step: ask for reduction_value." if has_reductions else ""
        super().__init__(
            f"Value for tensor {tname} is not available for step {step} with mode {mode.name} as it was not saved."
            + also
        )
        self.tname, self.step, self.mode, self.has_reductions = tname, step, mode, has_reductions


class ShapeUnavailableForStep(SMDebugError):
    """The shape of the tensor was not saved at that step."""

    def __init__(self, tname: str, step: int, mode: ModeKeys = ModeKeys.GLOBAL) -> None:
        super().__init__(
            f"Shape for tensor {tname} is not available for step {step} with mode {mode.name} as it was not saved."
        )
        self.tname, self.step, self.mode = tname, step, mode


class TensorUnavailable(SMDebugError):
    """No tensor of that name was saved."""

    def __init__(self, tname: str) -> None:
        super().__init__(f"Tensor {tname} was not saved.")
        self.tname = tname


class InvalidWorker(SMDebugError):
    """No worker of that name wrote."""

    def __init__(self, worker: str) -> None:
        super().__init__(f"Invalid Worker: {worker}")
        self.worker = worker


class MissingCollectionFiles(SMDebugError):
    """Nothing was saved there."""

    def __init__(self, where: str = "") -> None:
        place = f" in {where}" if where else ""
        super().__init__(f"Training job has ended. All the collection files could not be loaded{place}")


class IndexReaderException(SMDebugError):
    """What was saved cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NoMoreData(SMDebugError):
    """The training has ended before that step."""

    def __init__(self, step: int, mode: ModeKeys, last_step: int) -> None:
        self.msg = (
            f"Looking for step {step} of mode {mode.name} and reached end of training. "
            f"Max step available is {last_step}"
        )
        super().__init__(self.msg)
        self.step, self.mode, self.last_step = step, mode, last_step


class NoMoreProfilerData(SMDebugError):
    """The profile ends before that time."""

    def __init__(self, timestamp: float) -> None:
        self.msg = f"Looking for timestamp {timestamp} and reached end of training."
        super().__init__(self.msg)
        self.timestamp = timestamp


class RuleEvaluationConditionMet(SMDebugError):
    """A rule found what it looks for."""

    def __init__(self, rule_name: str, step: int, end_of_rule: bool = False) -> None:
        super().__init__(f"Evaluation of the rule {rule_name} at step {step} resulted in the condition being met")
        self.rule_name, self.step, self.end_of_rule = rule_name, step, end_of_rule


class InsufficientInformationForRuleInvocation(SMDebugError):
    """A rule lacks something to decide."""

    def __init__(self, rule_name: str, message: str) -> None:
        super().__init__(f"Insufficient information to invoke rule {rule_name}: {message}")
        self.rule_name, self.message = rule_name, message
