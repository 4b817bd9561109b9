"""A progress bar that rewrites its line, with a number in it, and one written by hand."""

# mypy: ignore-errors

import time

from tqdm import tqdm

bar = tqdm(range(300), mininterval=0)
for step in bar:
    bar.set_postfix(loss=f"{1 / (step + 1):.4f}")
for step in range(1000):
    print(f"step {step}", end="\r")
    time.sleep(0)
print("Epoch done")
