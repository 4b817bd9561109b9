"""What is true of a whole run, as one JSON object: written where the training begins, read by the rules.

Keys, each absent where it is not known: `num_classes`, `classes`, `class_counts` (training images a class), `samples`
(training images), `batch_size`, `steps_per_epoch`, `total_steps`, `parameters` [{name, shape, trainable, in_optimizer,
part: "backbone" | "head", kind: "weight" | "bias" | "norm"}], `modules` [{name, type, training, norm, activation}],
`optimizer`, `lr`, `weight_decay`, `momentum`, `pretrained`, `preprocess` {mean, std}, `features` (the inputs are cached
features, not images), `dtype`, `device`, `loss` (name of the loss), `reduction`, `label_smoothing`, `augment`,
`freeze`, `compiled`, `workers`, `debugger` {interval, overhead, ...}.
"""

import json
from pathlib import Path
from typing import Any

from houndsight.workspace import write_json

FILE = "facts.json"


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts in the folder of records; empty where there are none."""
    try:
        facts: dict[str, Any] = json.loads((folder / FILE).read_bytes())
    except FileNotFoundError:
        return {}
    return facts


def add_facts(folder: Path, **facts: Any) -> dict[str, Any]:
    """Write further facts beside those that are there already; returns all of them."""
    whole = read_facts(folder) | facts
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, whole)
    return whole
