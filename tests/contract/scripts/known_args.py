"""parse_known_args, a helper beside the script, and whatever else it is given."""

# mypy: ignore-errors

import argparse

from helpers.words import sentence

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
args, others = parser.parse_known_args()
print(sentence(args.epochs, others))
