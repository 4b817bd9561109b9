"""A script that answers and imports `smdebug`, as many do that were copied from a training script."""

import pytest

from tests.handlers.conftest import Serve, serve

__all__ = ["serve"]

SCRIPT = """
import json

import smdebug.pytorch as smd
from smdebug.pytorch import get_hook
from torch import nn

def model_fn(model_dir):
    model = nn.Linear(2, 2)
    hook = smd.Hook.create_from_json_file()
    hook.register_hook(model)
    hook.set_mode(smd.modes.PREDICT)
    return model

def transform_fn(model, data, content_type, accept):
    return json.dumps([get_hook().has_default_writer(), len(model._forward_hooks)]), "application/json"
"""


@pytest.mark.slow
def test_a_script_that_answers_may_import_it(serve: Serve) -> None:
    with serve(SCRIPT) as lives:
        status, body, _ = lives.ask(b"x", content_type="text/csv")
    assert (status, body) == (200, b"[false, 0]")
