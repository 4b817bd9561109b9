"""Hyperparameters that are lists, dictionaries, nothing and text with blanks."""

import argparse
import json
import os

parser = argparse.ArgumentParser()
parser.add_argument("--layers", type=json.loads)
parser.add_argument("--letters", type=list)
parser.add_argument("--options")
parser.add_argument("--nothing")
parser.add_argument("--title")
args = parser.parse_args()
assert args.layers == [64, 32], args.layers
assert args.letters == list("[1, 2]"), args.letters
assert args.options == "a=1,b=two", args.options
assert not args.nothing, args.nothing
assert args.title == "two words; $HOME `ls` 'quoted'", args.title
assert json.loads(os.environ["SM_HPS"])["options"] == {"b": "two", "a": 1}
assert os.environ["SM_HP_OPTIONS"] == '{"a":1,"b":"two"}'
print("loss=0.5")
