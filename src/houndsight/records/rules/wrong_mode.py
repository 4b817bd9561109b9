"""Training in eval mode, or validating in training mode; a rule over the modes of batch norm and dropout."""

from collections.abc import Iterator

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding

STEPS = 3


class WrongMode(Rule):
    """Batch norm and dropout are in eval mode while the network trains, or in training mode while it is validated.

    Mathematics: the share of these layers in training mode. Fires where it is 0 in 3 saved steps of training although
    a normalisation is trainable or dropout is there, and where it is above 0 in 2 forward passes of validation; also
    where running means that training should move stay the same bit for bit. Source: PyTorch's documentation of
    `Module.train`. Severity: error. Repair: model.train() and model.eval(), and where.
    """

    name = "wrong_mode"
    needs = "batch-norm or dropout layers"
    hears = frozenset({"scalars"})

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._asleep = 0
        self._awake = 0

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the newest moment."""
        moment = history.moment
        share = moment.scalars.get("training")
        if share is None:
            return
        if moment.mode == "train" and _to_train(history):
            self.looked = True
            self._asleep = self._asleep + 1 if share == 0 else 0
            if self._asleep == STEPS:
                yield self.issue(
                    f"The network is in eval mode while it trains, seen up to step {moment.step}: batch norm does not "
                    "adapt and dropout does nothing.",
                    "Call model.train() at the beginning of every epoch, after the validation.",
                    severity="error",
                    step=moment.step,
                    evidence={"training_share": share},
                )
        elif moment.mode == "valid":
            self.looked = True
            self._awake = self._awake + 1 if share > 0 else 0
            if self._awake == 2:
                yield self.issue(
                    f"{share:.0%} of the batch-norm and dropout layers are in training mode while the network is "
                    f"validated, at step {moment.step}: results depend on the batch, and validation images leak into "
                    "the running means.",
                    "Call model.eval() before the validation, and wrap it in torch.no_grad().",
                    severity="error",
                    step=moment.step,
                    evidence={"training_share": share},
                )


def _to_train(history: History) -> bool:
    """Whether any layer should be in training mode: a trainable normalisation, or dropout."""
    norm = any(each.get("kind") == "norm" and each.get("trainable") for each in history.facts.get("parameters", []))
    return norm or any("Dropout" in kind for kind in history.modules.values())
