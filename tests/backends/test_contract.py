"""What every back end keeps: one class of tests over all of them."""

import json
import threading

import pytest

from houndsight.backends import base
from houndsight.backends.base import Backend
from houndsight.backends.logs import tail
from houndsight.errors import WorkspaceError, from_document
from houndsight.spec import FINAL_STATES, Status

from .conftest import Bench, eventually, is_ready, processes_of


class TestContract:
    def test_a_job_runs_to_its_end(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("quick", backend.name)
        assert base.status(job).state == "QUEUED"
        backend.submit(job)
        ended = backend.wait(job)
        assert (ended.state, ended.exit_code, ended.reason, ended.error) == ("COMPLETED", 0, "", None)
        assert ended.backend == backend.name
        assert ended.started is not None
        assert ended.ended is not None
        assert ended.created <= ended.started <= ended.ended
        assert base.status(job) == ended == Status.read(job.status)
        assert {each.name for each in job.path.iterdir()} == {"spec.json", "status.json", "lock", "log.txt"}

    def test_what_it_prints_is_in_the_log_in_order(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("talk", backend.name)
        backend.submit(job)
        backend.wait(job)
        assert list(tail(job)) == [f"line {line}" for line in range(100)]

    def test_a_wrong_request_fails_with_its_own_words(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("refuse", backend.name)
        backend.submit(job)
        ended = backend.wait(job)
        assert (ended.state, ended.exit_code) == ("FAILED", 2)
        assert ended.error is not None
        error = from_document(ended.error)
        assert (error.kind, error.message) == ("DataError", "There are no images in 'dogs'.")
        assert job.failure.read_text() == ended.reason == str(error)
        assert "Traceback" not in job.log.read_text()

    def test_a_bug_fails_in_one_sentence_with_its_traceback_in_the_log(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("bug", backend.name)
        backend.submit(job)
        ended = backend.wait(job)
        assert (ended.state, ended.exit_code) == ("FAILED", 1)
        assert ended.reason.startswith("ZeroDivisionError: division by zero xxx")
        assert "\n" not in ended.reason
        assert len(job.failure.read_text()) == 1024
        assert "Traceback" in job.log.read_text()
        assert "jobs.py" in job.log.read_text()

    @pytest.mark.parametrize(
        ("behaviour", "kind", "said"),
        [
            ("full_disk", "DiskFullError", "No room left on the disk"),
            ("out_of_memory", "JobError", "ran out of memory"),
            ("leave", "JobError", "left by itself with exit code 7"),
        ],
    )
    def test_the_machine_fails_in_words(
        self, bench: Bench, backend: Backend, behaviour: str, kind: str, said: str
    ) -> None:
        job = bench.job(behaviour, backend.name)
        backend.submit(job)
        ended = backend.wait(job)
        assert (ended.state, ended.exit_code) == ("FAILED", 1)
        assert ended.error is not None
        assert ended.error["kind"] == kind
        assert said in ended.reason
        assert "Traceback" not in job.log.read_text()

    def test_a_job_stops_when_asked(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("until_stopped", backend.name)
        bench.start(backend, job)
        eventually(is_ready(job))
        assert backend.wait(job, 0.0).state == "RUNNING"
        ended = backend.stop(job, 20.0)
        assert (ended.state, ended.exit_code, ended.reason) == ("STOPPED", 0, "stopped as asked")
        assert list(tail(job)) == ["writing a checkpoint"]
        assert not job.failure.exists()
        assert backend.stop(job) == ended

    def test_a_request_without_a_signal_is_enough(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("until_stopped", backend.name)
        bench.start(backend, job)
        eventually(is_ready(job))
        job.stop_request.touch()
        assert base.status(job).state in ("STOPPING", "STOPPED")
        assert backend.wait(job, 20.0).state == "STOPPED"

    def test_a_job_that_nobody_started_is_stopped_at_once(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("quick", backend.name)
        assert backend.wait(job).state == "QUEUED"
        assert backend.stop(job).reason == "stopped before it began"
        assert base.status(job).state == "STOPPED"

    def test_a_running_job_is_not_started_again(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("until_stopped", backend.name)
        bench.start(backend, job)
        eventually(is_ready(job))
        before = job.status.read_bytes()
        with pytest.raises(WorkspaceError, match="is running already"):
            backend.submit(job)
        assert job.status.read_bytes() == before
        assert backend.stop(job, 20.0).state == "STOPPED"

    def test_a_completed_job_is_not_started_again(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("quick", backend.name)
        backend.submit(job)
        ended = backend.wait(job)
        with pytest.raises(WorkspaceError, match="is completed"):
            backend.submit(job)
        assert base.status(job) == ended

    def test_a_failed_job_goes_on(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("fail_once", backend.name)
        backend.submit(job)
        failed = backend.wait(job)
        assert failed.state == "FAILED"
        assert job.failure.exists()
        backend.submit(job)
        ended = backend.wait(job)
        assert (ended.state, ended.reason, ended.error, ended.created) == ("COMPLETED", "", None, failed.created)
        assert not job.failure.exists()
        lines = list(tail(job))
        assert (lines[0], lines[-1]) == ("first run", "second run")

    def test_a_stopped_job_goes_on(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("until_stopped", backend.name)
        for _ in range(2):
            bench.start(backend, job)
            eventually(is_ready(job))
            assert base.status(job).state == "RUNNING"
            assert backend.stop(job, 20.0).state == "STOPPED"
            (job.path / "ready").unlink()

    def test_the_log_is_followed_to_its_end(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("until_stopped", backend.name)
        bench.start(backend, job)
        eventually(is_ready(job))
        stopper = threading.Thread(target=backend.stop, args=(job, 20.0))
        stopper.start()
        assert list(tail(job, follow=True)) == ["writing a checkpoint"]
        stopper.join()
        assert base.status(job).state == "STOPPED"

    def test_the_status_is_never_half_read(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("quick", backend.name)
        over = threading.Event()
        seen: set[str] = set()
        broken: list[BaseException] = []

        def read() -> None:
            try:
                while not over.is_set():
                    seen.add(json.loads(job.status.read_bytes())["state"])
                    seen.add(base.status(job).state)
            except BaseException as error:  # noqa: BLE001 - shown by the test
                broken.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        backend.submit(job)
        backend.wait(job, 20.0)
        over.set()
        for reader in readers:
            reader.join()
        assert not broken
        assert base.status(job).state == "COMPLETED"
        assert seen & {"QUEUED", "RUNNING"}
        assert seen <= {"QUEUED", "RUNNING", *FINAL_STATES}

    def test_nothing_of_it_is_left(self, bench: Bench, backend: Backend) -> None:
        job = bench.job("quick", backend.name)
        backend.submit(job)
        backend.wait(job)
        assert processes_of(job) == []
