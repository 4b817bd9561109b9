"""A job's tensors as its user meets them: by name, by collection, as curves, as tables and as a picture."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from houndsight.cli.app import run
from houndsight.errors import SpecError
from houndsight.records.tensors import STATISTICS
from houndsight.verbs.job import Job


def test_names_by_expression_and_by_collection(colours: Job) -> None:
    seen = colours.debug
    gradients = seen.names("stage4.*grad")
    assert gradients
    assert gradients == seen.names("^gradient/.*stage4")
    assert set(seen.names(collection="gradients")) > set(gradients)
    assert all(name.startswith("weight/") for name in seen.names(collection="weights"))
    assert "inputs/0" in seen.names(collection="inputs")
    assert seen.workers() == [0]
    assert "train" in seen.modes()
    with pytest.raises(SpecError, match="Did you mean 'gradients'"):
        seen.names(collection="gradient")
    with pytest.raises(SpecError, match="no regular expression"):
        seen.names("layer[")


def test_curves_statistics_and_tables(colours: Job) -> None:
    seen, name = colours.debug, "gradient/head.1.weight"
    steps, values = seen.values(name)
    assert steps.tolist() == seen.steps(name)
    assert steps.tolist()[:5] == [0, 1, 2, 3, 4]
    assert np.isfinite(values).all()
    assert seen.statistics(name, 0)["l2"] == values[0]
    assert set(seen.to_pandas("head").columns) >= {"name", "mode", "step", *STATISTICS}
    assert seen.value(name, 0) is None  # statistics alone were saved
    found = seen.wait_for(3)
    assert found is not None
    assert seen.wait_for(10_000) is None  # the job has ended
    assert len(list(seen.follow())) >= 5
    with pytest.raises(SpecError, match=r"no tensor 'gradient/haed\.weight'"):
        seen.values("gradient/haed.weight")
    with pytest.raises(SpecError, match="no statistic 'median'"):
        seen.values(name, "median")


def test_what_a_job_records_without_being_asked(colours: Job) -> None:
    facts = colours.debug.facts
    assert facts["num_classes"] == 3
    assert facts["class_counts"] == [16, 16, 16]
    assert facts["debugger"]["overhead"] > 0
    assert facts["probe_samples"] == 16
    assert len(colours.records.curve("loss", "probe")[0]) == len(colours.records.curve("loss", "valid")[0])
    assert any(each.source == "debugger" for each in colours.findings)
    inputs = colours.debug.statistics("inputs", 0)
    assert abs(inputs["mean"]) < 3  # behind the normalisation
    assert inputs["max"] < 10


def test_a_picture_from_the_command_line(colours: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", colours.name, "--tensor", "head.*grad"]) == 0
    path = Path(capsys.readouterr().out.strip())
    words = [each.text for each in ElementTree.parse(path).iter() if each.text]
    assert "gradient/head.1.weight" in words
    assert run(["report", colours.name, "--tensor", "nothing"]) == 2
    assert "No tensor of 'colours'" in capsys.readouterr().err
