"""What the debugger recorded of a training, as `smdebug` would name it: losses whole, all other tensors as reductions.

Read for trainings that no hook of `smdebug` watched, the built-in classifier's. Of one step of ours there is one step
of smdebug's; steps over all modes are counted in the order in which they were written.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from houndsight.records.facts import read_facts
from houndsight.records.reader import Records
from houndsight.records.tensors import STATISTICS, TensorRecords
from houndsight.scripts.smdebug_config import CollectionManager, SaveConfig
from houndsight.scripts.smdebug_errors import ModeKeys
from houndsight.scripts.smdebug_store import Place, Reader, Step

MODES = {"train": ModeKeys.TRAIN, "valid": ModeKeys.EVAL, "predict": ModeKeys.PREDICT, "global": ModeKeys.GLOBAL}
REDUCTIONS = ("mean", "std", "min", "max", "l1", "l2")
WORKER = "worker_0"
LOSSES = {"cross_entropy": "CrossEntropyLoss", "nll_loss": "NLLLoss", "mse_loss": "MSELoss", "l1_loss": "L1Loss"}


class RecordReader(Reader):
    """The records of a job in the shape of what a hook saves."""

    def __init__(self, records: Path, folder: Path, ended: Callable[[], bool]) -> None:
        super().__init__(folder)
        self._records, self._ended = records, ended
        manager = CollectionManager()
        for each in manager.collections.values():
            each.save_config = SaveConfig()
        self.collections = {name: each.to_json_dict() for name, each in manager.collections.items()}

    def ended(self) -> bool:
        """Whether the job has."""
        return self._ended()

    def refresh(self) -> None:
        """Read what is there now."""
        facts = read_facts(self._records)
        model = facts.get("model") if isinstance(facts.get("model"), str) else "Model"
        loss = LOSSES.get(str(facts.get("loss")), "CrossEntropyLoss")
        found: dict[tuple[ModeKeys, int], tuple[float, dict[str, Place]]] = {}
        for each in TensorRecords(self._records):
            if each.mode not in MODES:
                continue
            place = found.setdefault((MODES[each.mode], each.step), (each.time, {}))[1]
            for row, name in enumerate(each.names):
                their = theirs(name, str(model))
                values = dict(zip(STATISTICS, each.values[row].tolist(), strict=True))
                numbers = {(key, False): values[key] for key in REDUCTIONS if values[key] == values[key]}
                if their is not None and numbers:
                    place[their] = Place(reductions=numbers)
        for scalar in Records(self._records).scalars("loss"):
            if scalar.mode in MODES:
                place = found.setdefault((MODES[scalar.mode], scalar.step), (scalar.time, {}))[1]
                place[f"{loss}_output_0"] = Place(value=np.array(scalar.value, np.float32))
        for number, (mode, step) in enumerate(sorted(found, key=lambda key: (found[key][0], key[1]))):
            tensors = {name: {WORKER: place} for name, place in found[mode, step][1].items()}
            self.steps[number] = Step(mode, step, tensors, {WORKER})
        self.began = True


def theirs(name: str, model: str) -> str | None:
    """What smdebug calls one of our tensors; None where it has none."""
    kind, _, rest = name.partition("/")
    if kind == "weight":
        return f"{model}_{rest}"
    if kind == "gradient":
        return f"gradient/{model}_{rest}"
    if kind in ("input", "output") and rest:
        module, _, call = rest.partition("#")
        return f"{module}_{kind}_{int(call) - 1 if re.fullmatch(r'[0-9]+', call) else 0}"
    return {"inputs": f"{model}_input_0", "outputs": f"{model}_output_0"}.get(name)
