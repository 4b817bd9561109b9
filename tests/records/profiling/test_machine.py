"""The sampler's file: counters become rates, and nothing torn, damaged or missing becomes a number."""

import json
from pathlib import Path

import numpy as np
import pytest

from houndsight.errors import WorkspaceError
from houndsight.records import machine
from houndsight.records.machine import MACHINE

from .made import BEGAN, header, machine_of, sample, write


def test_counters_become_rates(tmp_path: Path) -> None:
    seen = machine_of(tmp_path, 10, cpu=0.75, tree=1.5, main=0.8, waited=0.1, iowait=0.2, swap=12.0, io=0.4)
    assert len(seen) == 10
    assert seen.time[-1] == BEGAN + 5.0
    for series, value in (
        (seen.cpu, 0.75),
        (seen.iowait, 0.2),
        (seen.tree, 1.5),
        (seen.others, 4 * 0.75 - 1.5),
        (seen.main, 0.8),
        (seen.waited, 0.1),
        (seen.swap, 12.0),
        (seen.pressure[:, 2], 0.4),
    ):
        assert series == pytest.approx(np.full(series.shape, value), abs=1e-5)
    assert np.isnan(seen.pss).all()


def test_a_torn_tail_and_damaged_lines_are_left_out(tmp_path: Path) -> None:
    machine_of(tmp_path, 10)
    path = tmp_path / MACHINE
    lines = path.read_text().splitlines()
    lines[4] = lines[4][:50]
    path.write_text("\n".join(lines) + '\n[1, 2]\n{"t": 1}\n' + lines[-1][:30])
    seen = machine.read(tmp_path)
    assert len(seen) == 9  # the two intervals around the lost sample are one
    assert seen.seconds.tolist().count(1.0) == 1
    assert seen.tree == pytest.approx(np.full(9, 1.0))


def test_a_second_sampler_starts_its_counters_anew(tmp_path: Path) -> None:
    first = [sample(at, 0.5, tree=2.0) for at in range(4)]
    second = [{**sample(at, 0.5, tree=1.0), "t": BEGAN + 100 + 0.5 * at} for at in range(4)]
    write(tmp_path, [header(0.5), *first, header(0.5), *second])
    seen = machine.read(tmp_path)
    assert seen.tree.tolist() == pytest.approx([2.0] * 3 + [1.0] * 3)


def test_what_was_not_measured_is_unknown(tmp_path: Path) -> None:
    lines = [sample(at, 0.5) for at in range(3)]
    for line in lines:
        del line["psi"], line["page"], line["throttled"]
        line["tree"]["main"] = [7, None, None]
        del line["tree"]["anonymous"]
    write(tmp_path, [header(0.5), *lines])
    seen = machine.read(tmp_path)
    for series in (seen.pressure, seen.swap, seen.throttled, seen.main, seen.waited, seen.anonymous):
        assert np.isnan(series).all()


def test_no_file_is_no_machine_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    assert len(machine.read(tmp_path)) == 0
    (tmp_path / MACHINE).write_text(json.dumps({**header(0.5), "format": 99}) + "\n")
    with pytest.raises(WorkspaceError, match="newer Houndsight"):
        machine.read(tmp_path)
