"""What callers get back: the probabilities of one request in the form that its Accept header asks for."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.errors import HoundsightError
from houndsight.serving.requests import RequestRefusedError
from houndsight.serving.settings import Form

Row = NDArray[np.floating[Any]]
JSON = "application/json"


@dataclass(frozen=True)
class Wanted:
    """The form of an answer."""

    kind: str
    """`application/json`, `text/csv` or `application/x-npy`."""
    form: str
    """Of JSON: `classes`, `verbose` or `sagemaker`. Of CSV: `verbose` adds a line of class names."""
    top: int
    """Classes of each image, for `classes`."""


def wanted(accept: str, form: Form, top: int) -> Wanted:
    """What an Accept header asks for: the first type in it that there is; a missing one and `*/*` mean JSON.

    `application/json;verbose` lists every class, `;sagemaker` (or `;format=sagemaker`) gives the nested list of
    probabilities, `;top=3` three classes. Raises `RequestRefusedError` 406 where none of its types is there.
    """
    for choice in accept.lower().split(",") if accept else [JSON]:
        kind, *options = [part.strip() for part in choice.split(";")]
        kind = JSON if kind in ("*/*", "application/*", "", "application/jsonlines") else kind
        kind = "text/csv" if kind == "text/*" else kind
        if kind not in (JSON, "text/csv", "application/x-npy"):
            continue
        chosen: str = form
        for option in options:
            name, _, value = option.partition("=")
            if name in ("verbose", "sagemaker", "classes") and value in ("", "true", "1"):
                chosen = name
            elif name == "format" and value in ("verbose", "sagemaker", "classes"):
                chosen = value
            elif name == "top" and value.isdecimal() and len(value) < 7:
                top = max(1, int(value))
        return Wanted(kind, chosen, top)
    raise RequestRefusedError(
        406, f"No answer in '{accept[:100]}'.", "Accept application/json, text/csv or application/x-npy."
    )


def encode(
    rows: Sequence[Row | HoundsightError], many: bool, how: Wanted, classes: Sequence[str], reject_below: float
) -> tuple[bytes, str]:
    """Body and content type. An image that failed has an `error` in JSON, and NaN (null) where only numbers are."""
    if how.kind == "application/x-npy":
        file = io.BytesIO()
        np.lib.format.write_array(file, _numbers(rows, len(classes)), allow_pickle=False)
        return file.getvalue(), how.kind
    if how.kind == "text/csv":
        lines = [",".join(f"{value:.9g}" for value in row) for row in _numbers(rows, len(classes)).tolist()]
        if how.form == "verbose":
            lines.insert(0, ",".join(_quoted(name) for name in classes))
        return ("\n".join(lines) + "\n").encode(), how.kind
    if how.form == "sagemaker":
        numbers = _numbers(rows, len(classes)).tolist()
        nested = [None if isinstance(row, HoundsightError) else at for row, at in zip(rows, numbers, strict=True)]
        return json.dumps(nested).encode(), JSON
    answers = [_entry(row, how, classes, reject_below) for row in rows]
    return json.dumps(answers if many else answers[0]).encode(), JSON


def _entry(row: Row | HoundsightError, how: Wanted, classes: Sequence[str], reject_below: float) -> dict[str, Any]:
    if isinstance(row, HoundsightError):
        return {"predictions": [], "error": row.document()}
    places = np.argsort(-row, kind="stable")[: len(row) if how.form == "verbose" else how.top].tolist()
    best = [{"class": classes[place], "probability": float(row[place])} for place in places]
    answer: dict[str, Any] = {"predictions": best}
    if best[0]["probability"] < reject_below:
        answer = {"predictions": [], "rejected": {"below": reject_below, "best": best[0]}}
    if how.form == "verbose":  # the names that Amazon's ready-made image models use
        answer |= {"probabilities": row.tolist(), "labels": list(classes), "predicted_label": best[0]["class"]}
    return answer


def _numbers(rows: Sequence[Row | HoundsightError], count: int) -> NDArray[np.float64]:
    """(n, C); a row of NaN for an image that failed."""
    out = np.full((len(rows), count), np.nan)
    for place, row in enumerate(rows):
        if not isinstance(row, HoundsightError):
            out[place] = row
    return out


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(sign in name for sign in ',"\n') else name
