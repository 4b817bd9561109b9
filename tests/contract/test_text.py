"""Lines, metrics, failures: what is made of the output of a script, piece by piece."""

import random
import time
from pathlib import Path

import pytest

from houndsight.contract.failure import FailureText, hint
from houndsight.contract.lines import LONGEST, LineTap
from houndsight.contract.metrics import MetricScanner
from houndsight.records.reader import Records
from houndsight.records.writer import RecordWriter


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def cut(data: bytes, seed: int) -> list[bytes]:
    cuts = sorted(random.Random(seed).sample(range(len(data)), min(len(data), 12)))
    return [data[low:high] for low, high in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_lines_do_not_depend_on_how_they_are_read(seed: int) -> None:
    data = "one\r\ntwo ä\n\n  three  \n 10%|#\r 20%|##\r 30%|###\nlast".encode()
    written: list[str] = []
    tap = LineTap(written.append, Clock())
    lines = [line for piece in cut(data, seed) for line in tap.feed(piece)] + tap.close()
    assert lines == ["one", "two ä", "", "  three  ", " 10%|#", " 20%|##", " 30%|###", "last"]
    assert "".join(written) == "one\ntwo ä\n\n  three  \n 10%|#\n 30%|###\nlast\n"


def test_progress_every_five_seconds() -> None:
    clock = Clock()
    written: list[str] = []
    tap = LineTap(written.append, clock)
    for step in range(1200):  # two minutes of tqdm
        clock.now = step / 10
        tap.feed(f"\r{step}".encode())
        tap.idle()
    tap.close()
    lines = "".join(written).split("\n")
    assert lines[-2] == "1199"
    assert 20 < len(lines) < 30


def test_an_unfinished_line_is_shown_after_a_second() -> None:
    clock = Clock()
    written: list[str] = []
    tap = LineTap(written.append, clock)
    tap.feed(b"downloading ...")
    tap.idle()
    assert written == []
    clock.now = 1.5
    tap.idle()
    tap.idle()
    assert tap.feed(b" done\n") == ["downloading ... done"]
    assert "".join(written) == "downloading ... done\n"


def test_the_last_state_of_a_bar_that_ends_with_a_return() -> None:
    written: list[str] = []
    tap = LineTap(written.append, Clock())
    tap.feed(b"1\r2\r3\r")
    tap.close()
    assert "".join(written) == "1\n3\n"


def test_a_line_without_end_is_bounded() -> None:
    written: list[str] = []
    tap = LineTap(written.append, Clock())
    for _ in range(100):
        tap.feed(b"x" * 65536)
    lines = tap.close()
    assert [len(line) for line in lines] == [LONGEST]
    assert sum(map(len, written)) == 100 * 65536 + 1


def scanned(tmp_path: Path, expressions: dict[str, str], lines: list[str], patience: float = 1.0) -> MetricScanner:
    with RecordWriter(tmp_path / "records") as records:
        scanner = MetricScanner(expressions, records, patience=patience)
        scanner.scan(lines)
    return scanner


def test_numbers_that_are_none(tmp_path: Path) -> None:
    lines = ["loss 1.2.3", "loss .", "loss 0.5.", "loss 1.", "loss nan", "loss", "loss 1e-05", "loss inf", "loss 2"]
    scanner = scanned(tmp_path, {"seeds": r"loss ([0-9\.]+)", "any": r"loss (\S+)", "maybe": r"loss( \d$)?"}, lines)
    seeds, anything, maybe = scanner.metrics
    assert (seeds.found, seeds.skipped) == (3, 3)  # 1., 1 (of 1e-05) and 2
    assert (anything.found, anything.skipped) == (3, 5)
    assert (maybe.found, maybe.last) == (1, 2.0)
    values = Records(tmp_path / "records").scalars("any", "script")
    assert [(each.step, each.value) for each in values] == [(0, 1.0), (1, 1e-05), (2, 2.0)]


def test_a_catastrophic_expression_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    began = time.process_time()
    lines = ["loss 1", "a" * 60 + "!", "loss 2"]
    scanner = scanned(tmp_path, {"bad": r"^(a+)+$", "good": r"loss (\d)"}, lines, patience=0.2)
    assert time.process_time() - began < 3
    bad, good = scanner.metrics
    assert bad.gave_up
    assert not good.gave_up
    assert good.found == 2
    assert "'bad' is given up" in caplog.text
    scanner = MetricScanner({}, None)  # type: ignore[arg-type]
    scanner.scan(lines)


def test_forty_metrics_over_many_lines(tmp_path: Path) -> None:
    expressions = {f"metric {number}": rf"Test set {number}: Average loss: ([0-9\.]+)" for number in range(40)}
    lines = [f"Test set {number % 40}: Average loss: 0.{number}" for number in range(2000)]
    scanner = scanned(tmp_path, expressions, lines, patience=5)
    assert [metric.found for metric in scanner.metrics] == [50] * 40


def said(text: str, code: int = 1, command: tuple[str, ...] = ("python", "train.py")) -> str:
    found = FailureText()
    found.scan(text.split("\n"))
    return found.reason(code, command)


def test_an_old_traceback_is_not_the_reason() -> None:
    old = "Traceback (most recent call last):\n  File \"x.py\", line 1\nKeyError: 'old'\n"
    text = old + "\n".join(f"Epoch {number}" for number in range(100)) + "\nout of patience"
    assert "KeyError" not in said(text)
    assert "out of patience" in said(text)
    assert "KeyError: 'old'" in said(old)


def test_the_last_traceback_counts() -> None:
    one = "Traceback (most recent call last):\n  File \"x.py\", line 1\nKeyError: 'first'\n"
    two = one.replace("first", "second")
    assert "first" not in said(one + "goes on\n" + two)
    joint = "\nDuring handling of the above exception, another exception occurred:\n\n"
    assert "first" in said(one + joint + two)


def test_at_most_1024_characters() -> None:
    text = "Traceback (most recent call last):\nValueError: " + "begin" + "x" * 5000 + "the end"
    reason = said(text, command=("python", "train.py", "--list", "[" + "1, " * 2000 + "]"))
    assert len(reason) == 1024
    assert "ValueError: begin" in reason
    assert 'the end"\nCommand "python train.py --list' in reason
    assert len(said("\n".join(["line " * 500] * 10))) <= 1024


def test_an_exception_of_the_scripts_own() -> None:
    text = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n__main__.NoDogs: none'
    assert 'ErrorMessage "__main__.NoDogs: none"' in said(text)


def test_hints() -> None:
    assert "--channel training=DIR" in hint("KeyError: 'SM_CHANNEL_TRAINING'", ["train"], [])
    assert "given: train" in hint("KeyError: 'SM_CHANNEL_TRAINING'", ["train"], [])
    assert "Install" in hint("ModuleNotFoundError: No module named 'smdebug.pytorch'", [], ["helpers"])
    assert "SM_CHANNEL" in hint("FileNotFoundError: '/opt/ml/input/data/training'", [], [])
