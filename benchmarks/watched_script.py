"""What watching costs a script: the same training script in processes of its own, watched and not, by turns.

Run it with `python -m benchmarks.watched_script [--json]`. ResNet-18 with SGD on batches of eight images 128 pixels
wide; figures are CPU seconds of the process with one thread from the sixth step on. The losses have to be equal.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from houndsight.folders import JobFolder
from houndsight.records.facts import read_facts
from houndsight.scripts import ready
from houndsight.spec import ScriptSpec

PAIRS, STEPS = 4, 60
SCRIPT = """
import time, torch, torchvision
torch.manual_seed(0)
net = torchvision.models.resnet18(num_classes=10)
optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
images, labels = torch.randn(64, 3, 128, 128), torch.randint(0, 10, (64,))
data = torch.utils.data.TensorDataset(images, labels)
steps = 0
while steps < {steps}:
    for x, y in torch.utils.data.DataLoader(data, batch_size=8, shuffle=True):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        steps += 1
        if steps == 5:
            began = time.process_time()
print(time.process_time() - began, loss.item())
"""


def run(place: Path, *, watched: bool) -> tuple[float, float]:
    """(CPU seconds, last loss) of the script in a process of its own."""
    job = JobFolder(place / ("watched" if watched else "alone"))
    for each in (job.input / "config", job.code, job.records):
        each.mkdir(parents=True, exist_ok=True)
    script = job.code / "train.py"
    script.write_text(SCRIPT.format(steps=STEPS))
    spec = ScriptSpec(entry_point=script.name, source_dir=str(place))
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    if watched:
        variables |= {**ready.make(job, spec), "PYTHONPATH": ready.on_path([str(job.code)])}
    done = subprocess.run([sys.executable, str(script)], env=variables, capture_output=True, text=True, check=True)
    seconds, loss = map(float, done.stdout.split())
    return seconds, loss


def main() -> None:
    """Measure and print."""
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(PAIRS):
            alone, seen = run(Path(folder), watched=False), run(Path(folder), watched=True)
            assert alone[1] == seen[1], "the watched script learned something else"
            pairs.append((alone[0], seen[0]))
        own: dict[str, Any] = read_facts(JobFolder(Path(folder) / "watched").records)["debugger"]
    ratio = median(seen / alone for alone, seen in pairs)
    document = {"pairs": pairs, "ratio": ratio, "own_share": own["overhead"], "load": os.getloadavg()[0]}
    if "--json" in sys.argv:
        print(json.dumps(document))
        return
    print(f"CPU time watched / alone: {ratio:.3f} in the median of {PAIRS} pairs, {STEPS} steps each; the same losses.")
    print(f"By its own count the debugger took {own['overhead']:.1%}. Load of the machine: {document['load']:.1f}.")


if __name__ == "__main__":
    main()
