"""Specs: all problems at once, the nearest right key, frozen, and the same after JSON."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from houndsight import spec
from houndsight.errors import SpecError
from houndsight.spec import ClassifierSpec, Finding, Frozen, Index, Split, Status
from houndsight.workspace import write_json

MODELS = [each for each in vars(spec).values() if isinstance(each, type) and issubclass(each, BaseModel)]


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        ClassifierSpec.create(data="dogs", lr=-1, batch_size=0, dropout=1.0, epoch=3)
    message = caught.value.message
    assert message.startswith("4 settings are wrong: ")
    assert "lr: Input should be greater than 0 (got -1);" in message
    assert "batch_size: " in message
    assert "dropout: " in message
    assert "epoch: no such setting. Did you mean 'epochs'?" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "data: is required"),
        ({"data": "d", "epochs": 1, "steps": 1}, "give epochs or steps, not both"),
        ({"data": "d", "freeze": -1}, "the number of frozen stages cannot be negative"),
        ({"data": "d", "hidden": (0,)}, "every width must be 1 or more"),
        ({"data": "d", "lr": math.nan}, "lr: "),
        ({"data": "d", "lr": math.inf}, "lr: "),
        ({"data": "d", "weight_decay": -0.1}, "weight_decay: "),
        ({"data": "d", "epochs": 10**9}, "epochs: "),
        ({"data": "d", "optimizer": "adamm"}, "optimizer: "),
        ({"data": "d", "batch_size": "many"}, "batch_size: "),
        ({"data": "d", "seed": 2**63}, "seed: "),
        ({"data": 5}, "data: "),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=r"^One setting is wrong: ") as caught:
        ClassifierSpec.create(**given)
    assert said in caught.value.message


def test_rules_between_settings_are_told_with_the_rest() -> None:
    with pytest.raises(SpecError, match=r"2 settings are wrong: lr: .*; give epochs or steps, not both"):
        ClassifierSpec.create(data="d", epochs=1, steps=1, lr=-1)


def test_a_field_of_several_types_is_told_once() -> None:
    with pytest.raises(SpecError, match=r"^One setting is wrong: freeze: "):
        ClassifierSpec.create(data="d", freeze="some")


def test_several_rules_between_settings_are_told_together() -> None:
    with pytest.raises(SpecError) as caught:
        ClassifierSpec.create(data="d", epochs=1, steps=1, hidden=(-4,))
    assert "not both" in caught.value.message
    assert "every width" in caught.value.message


def test_a_spec_is_frozen() -> None:
    made = ClassifierSpec(data="dogs")
    with pytest.raises(ValidationError, match="frozen"):
        made.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_documented(model: type[BaseModel]) -> None:
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no docstring"
        assert field.description.endswith((".", "?")), f"{model.__name__}.{name}"


@given(
    st.builds(
        ClassifierSpec,
        data=st.text(),
        freeze=st.one_of(st.sampled_from(["all", "none"]), st.integers(0, 50)),
        hidden=st.lists(st.integers(1, 4096)).map(tuple),
        lr=st.floats(1e-12, 10.0),
        epochs=st.none() | st.integers(1, 100_000),
        seed=st.integers(0, 2**63 - 1),
    )
)
def test_a_spec_is_the_same_after_json(made: ClassifierSpec) -> None:
    assert ClassifierSpec.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    "document",
    [
        Status(state="FAILED", pid=3, exit_code=-9, reason="killed", error={"kind": "JobError", "message": "m"}),
        Finding(source="check", rule="leak", message="Two files are the same.", files=("a b.jpg",), evidence={"n": 2}),
        Index(
            root="/data",
            classes=("Malinois", "ß"),
            splits={"train": Split(paths=("Malinois/ü.jpg",), labels=(0,), sizes=(10,)), "valid": Split()},
            fingerprint="00",
        ),
    ],
)
def test_what_is_written_is_read_back(tmp_path: Path, document: Frozen) -> None:
    write_json(tmp_path / "document.json", document)
    assert type(document).read(tmp_path / "document.json") == document


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "ASLEEP"}', '{"state": "QUEUED", "colour": 1}', "\0\0"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(SpecError, match=r"status\.json: "):
        Status.read(tmp_path / "status.json")
