"""Spaces as people write them: what they mean, what is wrong with them, and all of it said at once."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as any_
from PIL import Image

import houndsight
from houndsight.errors import SpecError
from houndsight.tuning.presets import PRESETS, SETTINGS
from houndsight.tuning.space import Categorical, Continuous, Integer, active, holds, point
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.strategies import Searcher, decoded, distribution, encoded, grid, size, spread
from houndsight.tuning.written import read_file, read_space


def test_every_way_of_writing_a_parameter() -> None:
    space = read_space(
        [
            "lr=log:1e-4..1e-1", "dropout=0..0.5", "ema=revlog:0.9..0.9999", "epochs=int:5..15",
            "steps=int:log:100..5000", "batch_size=32,64,128", "optimizer=sgd,adamw", "warmup=0.1",
            "momentum=0.8..0.99 if optimizer=sgd",
        ]
    )  # fmt: skip
    assert space["lr"] == Continuous(low=1e-4, high=1e-1, scale="log")
    assert space["dropout"] == Continuous(low=0, high=0.5)
    assert space["ema"] == Continuous(low=0.9, high=0.9999, scale="revlog")
    assert space["epochs"] == Integer(low=5, high=15)
    assert space["steps"] == Integer(low=100, high=5000, scale="log")
    assert space["batch_size"] == Categorical(choices=(32, 64, 128))
    assert space["optimizer"] == Categorical(choices=("sgd", "adamw"))
    assert space["warmup"] == Categorical(choices=(0.1,))
    assert space["momentum"] == Continuous(low=0.8, high=0.99, only_if={"optimizer": ("sgd",)})


def test_ranges_as_calls_and_choices_between_bars() -> None:
    written = ["lr=log(0.001, 0.1)", "epochs=int(2,4)", "m=(0.5,0.9)", "n=int:log(8,512)", "b=32|64|128"]
    meant = ["lr=log:0.001..0.1", "epochs=int:2..4", "m=0.5..0.9", "n=int:log:8..512", "b=32,64,128"]
    space = read_space(written)
    assert space == read_space(meant)
    assert read_space(["w=a,b|c"])["w"] == Categorical(choices=("a,b", "c"))
    with pytest.raises(SpecError, match="is no range"):
        read_space(["lr=log(0.1)"])


def test_a_file_and_python_say_the_same(tmp_path: Path) -> None:
    typed = read_space(["lr=log:1e-4..1e-1", "batch_size=32,64", "momentum=0.8..0.99 if optimizer=sgd"])
    written = {
        "lr": {"low": 1e-4, "high": 1e-1, "scale": "log"},
        "batch_size": [32, 64],
        "momentum": {"range": "0.8..0.99", "if": {"optimizer": "sgd"}},
    }
    (tmp_path / "space.json").write_text(json.dumps(written))
    toml = 'lr = "log:1e-4..1e-1"\nbatch_size = [32, 64]\n[momentum]\nlow = 0.8\nhigh = 0.99\nif = "optimizer=sgd"\n'
    (tmp_path / "space.toml").write_text(toml)
    assert read_space(read_file(tmp_path / "space.json")) == typed
    assert read_space(read_file(tmp_path / "space.toml")) == typed
    condition = {"optimizer": ("sgd",)}
    objects = {"lr": Continuous(low=1e-4, high=1e-1, scale="log"), "batch_size": [32, 64],
               "momentum": Continuous(low=0.8, high=0.99, only_if=condition)}  # fmt: skip
    assert read_space(objects) == typed


def test_everything_wrong_with_a_space_is_said_at_once() -> None:
    wrong = ["lr=log:0..1", "a=5..1", "b", "c=int:0.5..2", "d=log:x..y", "e=1..", "f=1..2 if e", "g=revlog:0.5..1",
             "h=1,1", "i=1..2 if i=1", "j=1,2", "j=3,4"]  # fmt: skip
    with pytest.raises(SpecError) as caught:
        read_space(wrong)
    for name in ("lr: a log scale", "a: the lower", "'b' is no", "c: ", "d: 'x'", "e: ", "f: 'e'", "g: a revlog",
                 "h: a value", "i: cannot depend", "j: is given twice"):  # fmt: skip
        assert name in caught.value.message
    with pytest.raises(SpecError, match="circle"):
        read_space(["a=1..2 if b=1", "b=1,2 if a=1"])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few images as class folders; nothing is trained on them here."""
    folder = tmp_path_factory.mktemp("images")
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(12):
            Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(folder / name / f"{number}.png")
    return folder


def test_everything_wrong_with_a_tuning_is_said_before_anything_is_made(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        houndsight.tune(
            digits,
            {"lr": "log:1e-4..100", "batch_size": [0, 32], "epochs": "1.5..3.5", "momentun": "0..0.9",
             "seed": "int:0..9", "dropout": "0..0.5 if backbome=resnet18", "hidden": ["none", "64+32", "wide"]},
            objective="test:accuracy",
            workspace=tmp_path / "runs",
        )  # fmt: skip
    for said in ("lr: ", "batch_size: ", "epochs: takes whole numbers", "momentun: no such setting. Did you mean 'mom",
                 "seed: is no hyperparameter", "dropout: its condition asks for 'backbome'", "hidden: ",
                 "trials never see the test split"):  # fmt: skip
        assert said in caught.value.message, said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"space": {"lr": "log:1e-4..1e-1"}, "recipe": "linear"}, "The recipe linear has no lr"),
        ({"space": {"lr": "log:1e-4..1e-1"}, "strategy": "best"}, "strategy"),
        ({"space": {"lr": "log:1e-4..1e-1"}, "jobs": 0, "parallel": 0}, "2 settings are wrong"),
        ({"space": {"lr": "log:1e-4..1e-1"}, "strategy": "asha", "pruning": "median"}, "stop trials by themselves"),
        ({"space": {"lr": "log:1e-4..1e-1"}, "objective": "accurcy"}, "Did you mean 'accuracy'?"),
        ({"space": {"lr": "x..1"}, "jobs": 0, "image_size": 3}, "3 settings are wrong"),
        ({"space": {}}, "There is nothing to search"),
        ({"preset": "heads"}, "There is no preset"),
        ({"preset": "head", "start_from": "nobody"}, "There is no tuning 'nobody'"),
    ],
)
def test_what_cannot_go_together_is_refused(
    settings: dict[str, object], said: str, digits: Path, tmp_path: Path
) -> None:
    with pytest.raises(houndsight.HoundsightError) as caught:
        houndsight.tune(digits, workspace=tmp_path / "runs", **settings)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "runs/tunings").exists()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_sound(name: str) -> None:
    from houndsight.tuning import checks

    job = {"kind": "classifier", "data": "x", **SETTINGS[name]}
    spec = TuningSpec.create(job=job, space=checks.fitting(read_space(PRESETS[name])))
    assert checks.problems(spec) == []


@configure(deadline=None)
@given(any_.floats(0, 1), any_.sampled_from(["linear", "log", "revlog"]))
def test_shares_and_values_are_the_same_thing(share: float, scale: str) -> None:
    parameter = Continuous(low=0.5, high=0.999, scale=scale)
    value = parameter.at(share)
    assert parameter.holds(value)
    assert parameter.share(value) == pytest.approx(share, abs=1e-2)
    there = encoded(parameter, value)
    assert decoded(parameter, there) == pytest.approx(value, rel=1e-3)
    low, high = distribution(parameter).low, distribution(parameter).high  # type: ignore[attr-defined]
    assert low <= there <= high


@configure(deadline=None)
@given(any_.integers(2, 40), any_.integers(0, 5))
def test_an_even_spread_is_even(count: int, seed: int) -> None:
    shares = [spread(["a", "b"], number, seed)["a"] for number in range(count)]
    assert all(0 <= each < 1 for each in shares)
    ordered = sorted(shares)
    gaps = [b - a for a, b in itertools.pairwise(ordered)]
    assert max([*gaps, ordered[0], 1 - ordered[-1]]) < 6 / count


def test_a_condition_decides_what_counts() -> None:
    space = read_space(["optimizer=sgd,adamw", "momentum=0.8..0.99 if optimizer=sgd"])
    assert point(space, {"optimizer": 0.0, "momentum": 0.5}, {}) == {"optimizer": "sgd", "momentum": 0.895}
    assert point(space, {"optimizer": 0.9, "momentum": 0.5}, {}) == {"optimizer": "adamw"}
    assert holds(space, {"optimizer": "adamw"}, {})
    assert not holds(space, {"optimizer": "sgd"}, {})
    alone = read_space(["momentum=0.8..0.99 if optimizer=sgd"])
    assert active(alone["momentum"], {"optimizer": "sgd"})
    assert point(alone, {"momentum": 0.5}, {"optimizer": "adamw"}) == {}


def test_a_grid_leaves_out_what_does_not_count() -> None:
    space = read_space(["optimizer=sgd,adamw", "momentum=0.8,0.9 if optimizer=sgd", "epochs=int:1..3"])
    points = grid(space, {})
    assert len(points) == 3 * (2 + 1)
    assert size(space) == 12
    assert len(grid(read_space(["lr=log:1e-4..1"]), {})) == 5


def test_proposals_follow_from_the_seed_and_the_trials() -> None:
    from houndsight.tuning.events import Trial

    space = read_space(
        ["lr=log:1e-4..1", "batch_size=8,16,32", "momentum=0.8..0.99 if optimizer=sgd", "optimizer=sgd,adamw"]
    )

    def proposals(seed: int, count: int = 14) -> list[dict[str, object]]:
        spec = TuningSpec.create(job={"kind": "classifier", "data": "x"}, space=space, seed=seed, jobs=count)
        trials: list[Trial] = []
        for number in range(count):
            values = Searcher(spec, {}).propose(trials)  # a new one each time: nothing is kept in memory
            assert values is not None
            assert holds(space, values, {})
            trials.append(Trial(number, "", values, state="COMPLETED", value=-abs(values["lr"] - 0.01)))
        return [each.hyperparameters for each in trials]

    assert proposals(3) == proposals(3)
    assert proposals(3) != proposals(4)
