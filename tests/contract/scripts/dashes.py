"""Arguments with dashes, defaults from SM_*, metrics through print: the commonest style of all."""

# ruff: noqa: PTH118

import argparse
import json
import os

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--test-batch-size", type=int, default=1000)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--data-dir", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    args = parser.parse_args()
    classes = sorted(os.listdir(os.path.join(args.data_dir, "train")))
    for epoch in range(1, 4):
        print(f"Test set: Average loss: {args.lr / epoch:.4f}, Accuracy: {epoch}/4 ({25 * epoch}%)")
    with open(os.path.join(args.model_dir, "model.pth"), "w") as file:
        json.dump({"classes": classes, "batch": args.batch_size}, file)
