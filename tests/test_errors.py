"""The tree of errors: exit codes, documents that cross a process border, and hints."""

import pytest

from houndsight import errors
from houndsight.errors import HoundsightError, did_you_mean, from_document, nearest

TREE = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, HoundsightError)]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_crosses_a_process_border(kind: type[HoundsightError]) -> None:
    error = kind("There is no 'dogs'.", "Did you mean 'dog'?")
    back = from_document(error.document())
    assert type(back) is kind
    assert (back.message, back.repair) == (error.message, error.repair)
    assert str(back) == "There is no 'dogs'. Did you mean 'dog'?"


@pytest.mark.parametrize("kind", TREE)
def test_a_wrong_request_and_a_failed_job_differ_in_their_exit_code(kind: type[HoundsightError]) -> None:
    assert kind("").exit_code == (2 if issubclass(kind, errors.RequestError) else 1)


def test_an_unknown_kind_is_a_failed_job() -> None:
    assert type(from_document({"kind": "Nonsense", "message": "Broken."})) is errors.JobError
    assert str(from_document({})) == ""


def test_the_tree_is_drawn_as_it_is() -> None:
    assert errors.__doc__ is not None
    for kind in TREE:
        assert f" {kind.__name__} " in errors.__doc__ + " " or f"\n{kind.__name__}\n" in errors.__doc__


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("resnet8", "Did you mean 'resnet18' or 'resnet50'?"),
        ("RESNET18", "Did you mean 'resnet18' or 'resnet50'?"),
        ("mobilnet", "Did you mean 'MobileNet'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_hints_name_what_is_near(word: str, hint: str) -> None:
    assert did_you_mean(word, ["resnet50", "resnet18", "MobileNet"]) == hint


def test_the_nearest_come_first() -> None:
    assert nearest("batchsize", ["batch_size", "image_size", "base"], count=1) == ["batch_size"]
    assert nearest("x", []) == []
