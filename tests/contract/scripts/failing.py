"""Goes wrong in a function of its own, after it has saved something."""

# ruff: noqa: PTH118

import os


def load(folder: str) -> list[str]:
    try:
        return os.listdir(os.path.join(folder, "trian"))
    except FileNotFoundError as error:
        raise RuntimeError("no images to train on: ä") from error


with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"), "w") as file:
    file.write("half")
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "notes.txt"), "w") as file:
    file.write("so far")
print("Epoch 1")
load(os.environ["SM_CHANNEL_TRAINING"])
