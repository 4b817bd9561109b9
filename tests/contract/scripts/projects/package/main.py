"""An entry point whose network, data and loop lie in files of their own; lists and hyperparameters as JSON."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import json
import os

import torch
from loop import fit
from network import build
from pictures import loaders

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=json.loads, default=[32])
    parser.add_argument("--model-name", dest="name", default="small")
    parser.add_argument("--optimizer", choices=["SGD", "Adam"], default="SGD")
    args, _ = parser.parse_known_args()
    given = json.loads(os.environ["SM_HPS"])
    assert given["layers"] == args.layers, given
    channels = json.loads(os.environ["SM_TRAINING_ENV"])["channel_input_dirs"]
    model = build(args.name, args.layers)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=0.05)
    fit(model, optimizer, loaders(channels["training"]), int(given.get("epochs", 2)))
    torch.save(model.state_dict(), os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"))
