"""SageMaker's configuration as a hook reads it: what is saved when, and that nothing in it can end a training."""

import logging
from typing import Any

import pytest

from houndsight.scripts.hookconfig import from_sagemaker, read
from houndsight.scripts.smdebug_config import Collection, ReductionConfig, SaveConfig, SaveConfigMode
from houndsight.scripts.smdebug_errors import ModeKeys, SMDebugTypeError, SMDebugValueError
from houndsight.scripts.smdebug_metrics import str2bool

TRAIN, EVAL, PREDICT, GLOBAL = ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT, ModeKeys.GLOBAL


@pytest.mark.parametrize(
    ("config", "saved"),
    [
        ({}, [0, 500]),
        ({"save_interval": 3, "start_step": "2", "end_step": 9}, [3, 6]),
        ({"save_interval": "400", "save_steps": [1, 7]}, [0, 1, 7, 400, 800]),
        ({"start_step": 600, "save_steps": [5]}, [5]),
    ],
)
def test_which_steps_are_saved(config: dict[str, Any], saved: list[int]) -> None:
    schedule = SaveConfigMode(**config)
    assert [step for step in range(900) if schedule.should_save_step(step)] == saved


def test_configurations_go_to_json_and_back() -> None:
    save = SaveConfig({TRAIN: SaveConfigMode(7), EVAL: None})
    assert SaveConfig.from_json(save.to_json()) == save
    assert SaveConfig.parse({"TRAIN": {"save_interval": 7}}) == save
    assert save.over(SaveConfig(save_interval=3)).get_save_config(EVAL).save_interval == 3
    reduction = ReductionConfig(["mean"], ["max"], ["l1"], ["l2"], save_shape=True)
    assert ReductionConfig.from_json(reduction.to_json()) == reduction
    assert reduction.to_json_dict()["reductions"] == "mean,l1_norm,abs_max,abs_l2_norm"
    collection = Collection("x", ["a.*b"], ["t"], reduction, save)
    again = Collection.from_dict(collection.to_json_dict())
    assert again.to_json_dict() == collection.to_json_dict()
    assert [again.holds(name) for name in ("xxaxxb", "t", "u")] == [True, True, False]


def test_what_is_wrong_in_a_program_is_said() -> None:
    for wrong, kind in (
        (lambda: SaveConfigMode("often"), SMDebugValueError),
        (lambda: SaveConfigMode(0), SMDebugValueError),
        (lambda: SaveConfig({"train": SaveConfigMode()}), SMDebugValueError),  # type: ignore[dict-item]
        (lambda: SaveConfig.parse(3), SMDebugTypeError),
        (lambda: ReductionConfig(["median"]), SMDebugValueError),
        (lambda: Collection("x", ["("]), SMDebugValueError),
        (lambda: Collection("x").include(3), SMDebugTypeError),  # type: ignore[arg-type]
    ):
        with pytest.raises(kind):
            wrong()


def test_sagemakers_document_as_notebooks_make_it() -> None:
    found = read(
        {
            "S3OutputPath": "s3://bucket/",
            "LocalPath": "/opt/ml/output/tensors",
            "HookParameters": {"train.save_interval": "100", "eval.save_interval": "10", "include_regex": "relu, bn"},
            "CollectionConfigurations": [
                {
                    "CollectionName": "CrossEntropyLoss_output_0",
                    "CollectionParameters": {"include_regex": "CrossEntropyLoss_output_0", "train.save_interval": "1"},
                },
                {"CollectionName": "gradients", "CollectionParameters": None},
                {
                    "CollectionName": "w",
                    "CollectionParameters": {"include_regex": "weight", "reductions": "min,abs_max"},
                },
            ],
        }
    )
    assert not found.warnings
    assert found.include_regex == ["relu", "bn"]
    assert found.include_collections == ["CrossEntropyLoss_output_0", "gradients", "w"]
    intervals = {mode: found.save_config.get_save_config(mode).save_interval for mode in ModeKeys}
    assert intervals == {TRAIN: 100, EVAL: 10, PREDICT: 500, GLOBAL: 500}
    loss, gradients, weights = found.collections
    assert loss.save_config is not None
    assert [loss.save_config.get_save_config(mode).save_interval for mode in (TRAIN, EVAL)] == [1, 10]
    assert gradients.holds("gradient/ResNet_fc.weight")
    assert weights.reduction_config == ReductionConfig(["min"], ["max"])


def test_nothing_in_a_document_ends_a_training(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "houndsight"):
        found = read(
            {
                "HookParameters": {
                    "save_intervall": "5",
                    "save_all": "perhaps",
                    "eval.save_steps": "1,x",
                    "dry_run": None,
                },
                "CollectionConfigurations": [
                    {"CollectionName": "CrossEntopyLoss_output_0"},
                    {"CollectionName": "bad", "CollectionParameters": {"include_regex": "(", "reductions": "median"}},
                    {"CollectionParameters": {}},
                    {"CollectionName": "list", "CollectionParameters": []},
                ],
            }
        )
    for word in ("save_intervall", "save_all", "eval.save_steps", "CrossEntopyLoss_output_0", "'('", "median"):
        said = "steps of HookParameters for EVAL" if word == "eval.save_steps" else word
        assert said in caplog.text, word
    assert [each.name for each in found.collections] == ["CrossEntopyLoss_output_0", "bad", "list"]
    assert found.collections[0].holds("CrossEntopyLoss_output_0")
    assert read({"HookParameters": "x", "CollectionConfigurations": "y"}).collections == []


def test_without_a_document_what_sagemakers_rules_ask_for_is_saved() -> None:
    found = read(None)
    holds = {
        name: any(each.holds(name) for each in found.collections) for name in ("layer1.0.relu_input_0", "x_output_0")
    }
    assert holds == {"layer1.0.relu_input_0": True, "x_output_0": False}
    assert found.automatic
    assert any(each.holds("gradient/ResNet_fc.0.bias") for each in found.collections)


def test_modules_that_collections_name_are_taken_by_the_debugger_too() -> None:
    config = {
        "CollectionConfigurations": [
            {
                "CollectionName": "acts",
                "CollectionParameters": {"include_regex": r".*relu_output_\d+,layer4.*_input,fc"},
            },
            {"CollectionName": "losses", "CollectionParameters": {"save_interval": "1"}},
        ]
    }
    spec = from_sagemaker(config)
    assert {name: each.modules for name, each in spec.collections.items()} == {"acts": (".*relu", "layer4.*")}
    assert spec.schedule.interval is None
    assert spec.wants("layer1.0.relu")
    assert from_sagemaker(None).collections == {}


def test_what_a_person_means_by_yes() -> None:
    assert [str2bool(each) for each in (True, "Yes", "1", "off", "F", "0")] == [True, True, True, False, False, False]
    with pytest.raises(ValueError, match="maybe"):
        str2bool("maybe")
