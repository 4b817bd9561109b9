"""Asks the handlers of several models, in the process of a job, one request after another as an instance does."""

# ruff: noqa
# mypy: ignore-errors

import json
import os
import sys
import traceback

from houndsight.serving.handlers_worker import Transformer

given = json.loads(os.environ["SM_HPS"])  # torch is used by what is asked
answers = {}
for name, program in given["programs"].items():
    folder = os.environ[f"SM_CHANNEL_{name.upper()}"]
    sys.path.insert(0, os.path.join(folder, "code"))
    answers[name] = []
    try:
        transformer = Transformer(folder, program)
        transformer.load()
        for kind, body in given["requests"][name]:
            with open(os.path.join(os.environ["SM_CHANNEL_BODIES"], body), "rb") as file:
                content = bytearray(file.read())
            head = {"number": 1, "headers": {}, "content_type": kind, "accept": None}
            head, said = transformer.answer(head, content)
            answers[name].append({"status": head["status"], "answer": json.loads(said)})
    except Exception:
        answers[name] = traceback.format_exc()
    sys.path.pop(0)
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "answers.json"), "w") as file:
    json.dump(answers, file)
