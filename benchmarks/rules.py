"""What the rules cost: CPU time of all of them for a saved step of a network with 62 parameters, all statistics taken.

Run it with `python -m benchmarks.rules [--json]`. A step carries weights, gradients, updates and distances of 62
parameters, 40 running statistics, 17 activations, inputs and outputs: 311 tensors with 13 statistics each.
"""

import json
import sys
import time
from statistics import median

import numpy as np

from houndsight.records.rules.engine import Engine
from houndsight.records.rules.moment import Moment
from houndsight.records.tensors import STATISTICS

PARAMETERS, ROUNDS, STEPS = 62, 7, 100


def main() -> None:
    names = [f"layer{number}.{'weight' if number % 3 else 'bias'}" for number in range(PARAMETERS)]
    tensors = tuple(f"{kind}/{name}" for kind in ("weight", "gradient", "update", "distance") for name in names)
    tensors += tuple(f"input/relu{number}" for number in range(17))
    tensors += ("inputs", "inputs/0", "inputs/1", "inputs/2", "outputs", "logits")
    tensors += tuple(f"buffer/bn{number}.running_{of}" for number in range(20) for of in ("mean", "var"))
    facts = {
        "num_classes": 10, "batch_size": 32,
        "parameters": [
            {"name": name, "shape": [64] if name.endswith("bias") else [64, 64, 3, 3], "trainable": True,
             "in_optimizer": True, "part": "backbone", "kind": name.rpartition(".")[2]}
            for name in names
        ],
        "modules": [{"name": f"relu{number}", "type": "ReLU"} for number in range(17)],
    }  # fmt: skip
    engine, draw, costs = Engine(facts, strict=True), np.random.default_rng(0), []
    for number in range(ROUNDS):
        moments = [moment(number * STEPS + step, tensors, draw) for step in range(STEPS)]
        start = time.thread_time()
        for each in moments:
            engine.feed(each)
        costs.append(1e3 * (time.thread_time() - start) / STEPS)
    found = {
        "milliseconds_a_saved_step": median(costs),
        "least": min(costs),
        "most": max(costs),
        "tensors": len(tensors),
    }
    print(json.dumps(found) if "--json" in sys.argv else found)


def moment(step: int, names: tuple[str, ...], draw: np.random.Generator) -> Moment:
    """A healthy step."""
    values = np.abs(draw.normal(1, 0.1, (len(names), len(STATISTICS)))).astype(np.float32)
    for statistic, value in (("nonfinite", 0.0), ("zeros", 0.3), ("dead", 0.1), ("saturated", 0.1)):
        values[:, STATISTICS.index(statistic)] = value
    values[2 * PARAMETERS : 3 * PARAMETERS, STATISTICS.index("l2")] *= 1e-3
    loss = 2.3 * 0.995**step
    scalars = {"loss": loss, "lr": 0.1, "plain_loss": loss, "batch": 32.0, "distinct_labels": 9.0}
    return Moment(step, scalars=scalars, names=names, values=values)


if __name__ == "__main__":
    main()
