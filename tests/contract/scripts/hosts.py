"""Hosts as JSON, the number of GPUs, the whole environment in one variable."""

# ruff: noqa: PTH109

import argparse
import json
import os

parser = argparse.ArgumentParser()
parser.add_argument("--hosts", type=list, default=json.loads(os.environ["SM_HOSTS"]))
parser.add_argument("--current-host", type=str, default=os.environ["SM_CURRENT_HOST"])
parser.add_argument("--num-gpus", type=int, default=os.environ["SM_NUM_GPUS"])
args = parser.parse_args()
whole = json.loads(os.environ["SM_TRAINING_ENV"])
assert args.current_host == args.hosts[0] == whole["master_hostname"]
assert whole["num_gpus"] == args.num_gpus
assert whole["job_name"] == os.environ["TRAINING_JOB_NAME"]
assert os.getcwd() == os.path.realpath(whole["module_dir"])
print(f"rank {args.hosts.index(args.current_host)} of {len(args.hosts)}")
