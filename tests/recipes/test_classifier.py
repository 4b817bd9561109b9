"""What each recipe decides, what it leaves alone, and what it refuses."""

from typing import Any

import pytest

from houndsight.errors import SpecError
from houndsight.recipes.classifier import complete, lp_ft_steps
from houndsight.spec import ClassifierSpec


def completed(fine_tune: bool = False, images: int = 2520, **settings: Any) -> ClassifierSpec:
    return complete(ClassifierSpec.create(data="-", **settings), images, lambda _: fine_tune)


def test_alone_it_fine_tunes_where_that_is_affordable() -> None:
    assert completed(fine_tune=True).recipe == "lp-ft"
    assert completed(fine_tune=False).recipe == "linear"


@pytest.mark.parametrize(
    ("settings", "recipe"),
    [
        ({"freeze": "all"}, "linear"),
        ({"freeze": "all", "augment": "crop-flip"}, "plain"),
        ({"freeze": "none"}, "lp-ft"),
        ({"freeze": 2}, "lp-ft"),
        ({"lr": 0.1}, "plain"),
        ({"epochs": 3, "freeze": "none"}, "plain"),
        ({"augment": "trivial"}, "lp-ft"),
        ({"recipe": "seed", "lr": 0.1}, "seed"),
    ],
)
def test_what_is_given_decides(settings: dict[str, Any], recipe: str) -> None:
    found = completed(**settings)
    assert found.recipe == recipe
    assert found.model_dump(include=set(settings) - {"recipe"}) == {
        name: value for name, value in settings.items() if name != "recipe"
    }


@pytest.mark.parametrize("recipe", ["linear", "lp-ft", "seed", "plain"])
def test_every_recipe_leaves_nothing_open(recipe: str) -> None:
    found = completed(recipe=recipe)
    if found.optimizer != "lbfgs":
        assert None not in (found.lr, found.weight_decay)
        assert (found.epochs is None) != (found.steps is None)
    assert ClassifierSpec.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("settings", [{"lr": 0.1}, {"hidden": (8,)}, {"freeze": "none"}, {"augment": "trivial"}])
def test_linear_refuses_what_it_does_not_have(settings: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(settings))):
        completed(recipe="linear", **settings)


def test_a_given_number_of_epochs_takes_the_place_of_steps() -> None:
    assert completed(recipe="lp-ft", epochs=2).steps is None
    assert completed(recipe="seed", steps=2).epochs is None


def test_the_budget_of_fine_tuning_grows_with_the_data() -> None:
    assert [lp_ft_steps(images) for images in (100, 19_999, 80_000)] == [500, 500, 1000]


def test_sgd_has_rates_of_its_own() -> None:
    assert completed(optimizer="sgd").lr == 0.01
    assert completed(optimizer="adam").lr == 0.001
