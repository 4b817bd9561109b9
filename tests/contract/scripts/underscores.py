"""Arguments with underscores, a second folder for what is no model."""

# ruff: noqa: PTH103, PTH118

import argparse
import os

parser = argparse.ArgumentParser()
parser.add_argument("--batch_size", type=int, required=True)
parser.add_argument("--learning_rate", type=float, required=True)
parser.add_argument("--model_dir", default=os.environ["SM_MODEL_DIR"])
parser.add_argument("--output_dir", default=os.environ["SM_OUTPUT_DATA_DIR"])
parser.add_argument("-e", type=int)
args = parser.parse_args()
os.makedirs(args.output_dir, exist_ok=True)
with open(os.path.join(args.output_dir, "history.csv"), "w") as file:
    file.write(f"epoch,loss\n{args.e},{args.learning_rate}\n")
with open(os.path.join(args.model_dir, "model.pth"), "wb") as file:
    file.write(b"\0" * args.batch_size)
print("Testing Loss: 0.5.")
print("Testing Loss: 1.2.3")
print("Testing Loss: 0.25")
