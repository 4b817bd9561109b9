"""Captured requests: whole, bounded, and never in a caller's way, whatever the disk does."""

import json
import shutil
import time
from pathlib import Path

import pytest

from houndsight.serving import capture
from houndsight.serving.app import Captured
from houndsight.serving.capture import Capture, prune, read


def request(body: bytes = b"\xff\xd8picture", status: int = 200) -> Captured:
    return Captured(
        body, "image/jpeg", b'{"predictions": []}', "application/json", status, "AllTraffic", "id-7", 0.0125
    )


def test_what_was_sent_and_answered_is_kept_whole(tmp_path: Path) -> None:
    keep = Capture(tmp_path / "capture", share=1.0, most=2**30, slot=3)
    keep(request())
    keep(request(b"second", status=400))
    keep.close()
    first, second = read(tmp_path / "capture")
    assert (tmp_path / "capture" / first["file"]).read_bytes() == b"\xff\xd8picture"
    assert first["file"].endswith(".jpg")
    assert first["answer"] == {"predictions": []}
    assert (first["status"], first["variant"], first["inference_id"]) == (200, "AllTraffic", "id-7")
    assert first["milliseconds"] == 12.5
    assert second["status"] == 400
    assert keep.left_out == 0


def test_a_share_is_a_share(tmp_path: Path) -> None:
    keep = Capture(tmp_path, share=0.1, most=2**30, slot=0)
    for _ in range(2000):
        keep(request(b"x"))
    keep.close(30)
    assert 120 < sum(1 for _ in read(tmp_path)) < 290  # 200 expected, 13 the standard deviation


def test_the_oldest_go_when_there_is_no_more_room(tmp_path: Path) -> None:
    most = 2**20
    keep = Capture(tmp_path, share=1.0, most=most, slot=0)
    for number in range(60):
        keep(request(bytes([number]) * 40_000))
    keep.close(30)
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert most * 0.8 < total <= most * 1.1
    left = {path.read_bytes()[0] for path in tmp_path.rglob("*.jpg")}
    assert 59 in left
    assert 0 not in left


def test_a_full_disk_costs_records_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "PAUSE_SECONDS", 0.0)
    keep = Capture(tmp_path, share=1.0, most=2**30, slot=0)
    hour = time.strftime("%Y-%m-%dT%H", time.gmtime())
    (tmp_path / f"{hour}-0.jsonl").symlink_to("/dev/full")  # every write: no space left on device
    for _ in range(5):
        began = time.perf_counter()
        keep(request())
        assert time.perf_counter() - began < 0.1
    keep.close()
    assert keep.left_out == 5


def test_a_folder_that_cannot_be_made_is_told_once_in_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "capture").write_text("a file where the folder should be")
    keep = Capture(tmp_path / "capture", share=1.0, most=2**30, slot=0)
    for _ in range(50):
        keep(request())
    keep.close()
    assert keep.left_out == 50
    assert len(caplog.records) == 1


def test_little_room_on_the_disk_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "FLOOR_BYTES", shutil.disk_usage(tmp_path).total * 2)
    keep = Capture(tmp_path, share=1.0, most=2**30, slot=0)
    keep(request())
    keep.close()
    assert keep.left_out == 1
    assert list(read(tmp_path)) == []


def test_a_slow_disk_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "QUEUE_BYTES", 0)
    keep = Capture(tmp_path, share=1.0, most=2**30, slot=0)
    keep(request())
    keep.close()
    assert keep.left_out == 1


def test_a_line_torn_by_a_kill_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    hour = time.strftime("%Y-%m-%dT%H", time.gmtime())
    (tmp_path / f"{hour}-0.jsonl").write_text(json.dumps({"id": "whole"}) + '\n{"id": "to')
    keep = Capture(tmp_path, share=1.0, most=2**30, slot=0)
    keep(request())
    keep.close()
    assert [each["id"] == "whole" for each in read(tmp_path)] == [True, False]


def test_pruning_beside_another_instance_is_no_error(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}").write_bytes(bytes(1000))
    prune(tmp_path, 5000)
    prune(tmp_path, 5000)
    assert len(list(tmp_path.iterdir())) == 4
