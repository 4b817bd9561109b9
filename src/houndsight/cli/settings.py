"""The flags of `houndsight train`, made from the spec's fields, one truth for Python and the terminal."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from houndsight.spec import ClassifierSpec

GROUPS = {
    "Model": ("recipe", "backbone", "weights", "head_start", "freeze", "hidden", "dropout", "batch_norm", "image_size"),
    "Training": (
        *("optimizer", "lr", "weight_decay", "layer_decay", "ema", "eps", "momentum", "schedule", "warmup", "epochs"),
        *("steps", "batch_size", "label_smoothing", "class_weights", "augment", "views", "first_size"),
        *("early_stopping", "monitor", "seed", "soup"),
    ),
    "Data": ("split_seed", "evaluate_test"),
    "Debugger": ("debug", "debug_interval", "rules", "on_finding"),
    "Machine": ("device", "precision", "threads", "workers", "checkpoint_seconds"),
}
"""Where a setting stands in `houndsight train --help`."""

REPEATED = {"rules": "--rule"}
"""Settings that are typed once for each of their values -> their flag."""


def flags_of(spec: type[BaseModel]) -> Any:
    """A dictionary type with one optional entry a setting of `spec`, each a string as it was typed.

    The spec itself turns the strings into values, so that all problems are named at once and in its own words.
    """
    entries: dict[str, Any] = {}
    for order, (title, names) in enumerate(GROUPS.items(), start=1):
        group = Group(title, sort_key=order)
        for name in names:
            field = spec.model_fields[name]
            entries[name] = flag_of(field, group)
            if name in REPEATED:  # its values may hold commas
                named = Parameter(name=REPEATED[name], help=_help(field), metavar="RULE", group=group)
                entries[name] = Annotated[list[str], named]
    return TypedDict("Settings", entries, total=False)  # type: ignore[operator]  # made from the spec, not written out


def flag_of(field: FieldInfo, group: Group) -> Any:
    """A field of a spec as the type of a flag: a string, its help and its word from the field."""
    return Annotated[str, Parameter(help=_help(field), metavar=_metavar(field.annotation), group=group)]


def as_settings(typed: dict[str, Any] | None) -> dict[str, Any]:
    """The typed strings as the spec takes them: lists are split at their commas."""
    return {name: _value(ClassifierSpec.model_fields[name], text) for name, text in (typed or {}).items()}


def _value(field: FieldInfo, text: str | list[str]) -> Any:
    if isinstance(text, str) and get_origin(field.annotation) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _help(field: FieldInfo) -> str:
    said = [" ".join((field.description or "").split())]
    if get_origin(field.annotation) is Literal:
        said.append(f"One of {', '.join(get_args(field.annotation))}.")
    if field.default not in (None, ()):
        said.append(f"[{field.default}]")
    return " ".join(said)


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is tuple:
        return "N,N"
    kinds = set(get_args(annotation)) or {annotation}
    if kinds <= {int, type(None)}:
        return "N"
    return "NUMBER" if kinds <= {float, int, type(None)} else "WORD"


if TYPE_CHECKING:
    Settings = dict[str, Any]
else:
    Settings = flags_of(ClassifierSpec)
