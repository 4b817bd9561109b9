"""A channel a split, and the list of them."""

# ruff: noqa: PTH118

import json
import os

channels = json.loads(os.environ["SM_CHANNELS"])
assert channels == ["test", "train", "validation"], channels
for name in channels:
    folder = os.environ[f"SM_CHANNEL_{name.upper()}"]
    assert folder == os.path.join(os.environ["SM_INPUT_DIR"], "data", name)
    assert len(os.listdir(folder)) == 10
with open(os.path.join(os.environ["SM_INPUT_CONFIG_DIR"], "inputdataconfig.json")) as file:
    assert sorted(json.load(file)) == channels
print("Loss: 1e-05")
