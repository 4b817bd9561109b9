"""A script as SageMaker users write them, without a network: its loss follows from its arguments."""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--stream", default="stdout")
parser.add_argument("--seconds", type=float, default=0.0)
parser.add_argument("--sick", type=float, default=0.0)
arguments = parser.parse_args()
logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
for epoch in range(1, arguments.epochs + 1):
    loss = (arguments.lr - 0.03) ** 2 + 1 / epoch
    line = f"Test set: Average loss: {loss:.4f}, Accuracy: 1/2 (50%)"
    if arguments.stream == "stderr":
        logging.info(line)
    else:
        print(line, flush=True)
    if arguments.sick and epoch == 1:
        finding = {"rule": "exploding_tensor", "status": "IssuesFound", "severity": "error", "message": "all is lost"}
        told = {"source": "debugger", "evidence": {"finite": arguments.sick < 1}}
        Path("../findings.json").write_text(json.dumps({"findings": [{**finding, **told}]}))
    time.sleep(arguments.seconds * (10 if arguments.lr > 1 else 1))
Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(str(arguments.lr))
