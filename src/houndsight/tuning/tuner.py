"""The search itself: decides trials, runs them as jobs, takes in what came of them, until the limits are reached.

One process, one thread, one writer of events. Whatever happens to it, the events say where to go on: trials that ended
stay, those that ran are found again by their jobs' folders.
"""

import logging
import time
from collections.abc import Callable
from typing import Literal

from houndsight.backends import base
from houndsight.backends.base import Backend
from houndsight.errors import HoundsightError, JobError
from houndsight.folders import TuningFolder
from houndsight.spec import FINAL_STATES, Status
from houndsight.tuning import faults, finish, leaderboard, rungs, trials
from houndsight.tuning.events import EventLog, State, Trial
from houndsight.tuning.objective import Course, curve_of, outcome
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.strategies import Searcher
from houndsight.tuning.waiting import Processes, Seen
from houndsight.workspace import Workspace

log = logging.getLogger("houndsight")

LOOK_SECONDS = (0.05, 0.5)
"""Shortest and longest time between two looks at the files of running jobs; between them a tenth of a trial's age."""
GRACE = 60.0
"""Seconds that a trial has to write a checkpoint when the search is stopped."""
USUAL_EPOCHS = 10


class Tuner:
    """Runs one tuning with the given back end; `stop` asks it to end, to be gone on with later."""

    def __init__(self, folder: TuningFolder, place: Workspace, backend: Backend, stop: Callable[[], bool]) -> None:
        self.spec = TuningSpec.read(folder.spec)
        self.folder, self.place = folder, place
        self._backend, self._stop = backend, stop
        self._log = EventLog(folder.events)
        self._fixed = trials.fixed_values(self.spec)
        self._searcher = Searcher(self.spec, self._fixed)
        self._seen: dict[int, Seen] = {}
        self._status: dict[int, Status] = {}
        self._courses: dict[int, Course] = {}
        self._asked: dict[int, tuple[str, str]] = {}
        self._again: list[Trial] | None = None
        self._processes = Processes()
        self._watching = self.spec.pruning == "median" or (self.spec.is_script and self._pausing)

    @property
    def state(self) -> State:
        """Where the search stands."""
        return self._log.state

    @property
    def _pausing(self) -> bool:
        return self.spec.strategy in ("asha", "hyperband")

    def run(self) -> Literal["COMPLETED", "STOPPED"]:
        """Search to the end; `JobError` where no trial came to anything."""
        self._add("began", format=1)
        try:
            while not self._stop() and self.state.phase != "done":
                self._look()
                self._fill()
                if not self.state.running:
                    self._next_phase()
                    continue
                if self._look():
                    continue
                self._processes.keep({pid for pid in map(self._pid, self.state.running) if pid is not None})
                self._processes.wait(self._patience())
            if self.state.phase != "done":
                self._halt()
                return "STOPPED"
            for trial in self.state.trials:  # pages of the last trials are still being built
                self._backend.wait(trials.job_of(self.place, trial), GRACE)
            return "COMPLETED"
        finally:
            finish.conclude(self.spec, self.state, self.folder, self.place)
            self._add("left")
            self._processes.close()
            self._log.close()

    def _patience(self) -> float:
        ages = [time.monotonic() - self._seen[each.number].since for each in self.state.running]
        return min(max(LOOK_SECONDS[0], min(ages) / 10), LOOK_SECONDS[1])

    def _add(self, event: str, **fields: object) -> None:
        self._log.add(event, **fields)

    def _pid(self, trial: Trial) -> int | None:
        status = self._status.get(trial.number)
        return status.pid if status else None

    # ------------------------------------------------------------------------------------- new trials

    def _fill(self) -> None:
        """Start trials until no slot or nothing to start is left."""
        for trial in self.state.running:
            if trial.number not in self._seen:
                self._take_over(trial)
        if any(each.role == "default" for each in self.state.running) and not self.spec.is_script:
            return  # it runs alone, with all processors, and fills the caches that the others share
        while len(self.state.running) < self.spec.parallel and not self._stop():
            if not self._start_one():
                return
            if self.state.running and self.state.running[-1].role == "default":
                return

    def _start_one(self) -> bool:
        if self.state.phase == "search":
            return self._search_one()
        if self.state.phase == "reseed":
            if self._again is None:
                self._again = finish.to_reseed(self.spec, self.state, self.place)
            done = {each.of for each in self.state.trials if each.role == "reseed"}
            wanted = next((each for each in self._again if each.number not in done), None)
            if wanted is None or self._late():
                return False
            self._decide(wanted.hyperparameters, "reseed", of=wanted.number, seed=finish.other_seed(self.spec, wanted))
            return True
        if self.state.phase == "final" and not any(each.role == "final" for each in self.state.trials):
            best = leaderboard.best_trial(self.spec, self.state)
            if best is None or not finish.final_wanted(self.spec):
                return False
            self._decide(best.hyperparameters, "final", of=best.number)
            return True
        return False

    def _search_one(self) -> bool:
        if self._late() or faults.hopeless(self.state):
            return False
        searched = self.state.searched
        closing = len(searched) >= self.spec.jobs
        if self._pausing and not self.spec.is_script:
            on = rungs.promoted(self.spec, searched, closing)
            if on is not None and self._affordable(on):
                self._go_on(on)
                return True
        if closing or not self._affordable(None):
            return False
        if not searched and self.spec.default_first:
            self._decide({}, "default")
            return True
        values = self._searcher.propose(searched)
        if values is None:
            return False
        self._decide(values, "search", bracket=rungs.bracket_of(self.spec, len(searched), self._epochs_of(values)))
        return True

    def _decide(
        self, values: dict[str, object], role: str, *, of: int | None = None, seed: int | None = None, bracket: int = 0
    ) -> None:
        number = len(self.state.trials)
        job = trials.job_name(self.folder.name, number)
        self._add("trial", number=number, job=job, hyperparameters=values, role=role, of=of, seed=seed, bracket=bracket)
        self._take_over(self.state.trials[number])

    def _take_over(self, trial: Trial) -> None:
        """Make the job where there is none, start it where it does not run, and watch it from now on."""
        alone = trial.role in ("default", "final") or self.spec.parallel == 1
        threads = None if alone else trials.share_of_cores(self.spec.parallel)
        self._seen[trial.number] = Seen()
        try:
            if trial.role == "final":
                spec = finish.final_spec(self.spec, self.state, self.place)
            else:
                spec = trials.spec_of(self.spec, trial.hyperparameters, trial.seed, threads)
            job = trials.make_job(self.place, self.folder, trial, spec)
        except HoundsightError as error:
            self._end(trial, "FAILED", str(error))
            return
        until = self._until(trial) if trial.until is None else trial.until
        now = base.status(job)
        runs = now.state not in FINAL_STATES and now.pid is not None
        at_rung = now.state == "STOPPED" and trial.until is not None and len(self._course(trial)) >= trial.until
        if runs or at_rung or now.state == "COMPLETED":
            self._started(trial, until)  # by a controller that is gone: what it came to is taken in at the next look
        else:
            self._submit(trial, until)

    def _submit(self, trial: Trial, until: int | None) -> None:
        job = trials.job_of(self.place, trial)
        if until is None:
            job.pause.unlink(missing_ok=True)
        else:
            job.pause.write_text(str(until))
        self._started(trial, until)
        self._seen[trial.number] = Seen()
        self._status.pop(trial.number, None)
        if base.status(job).state != "COMPLETED":
            self._backend.submit(job)

    def _started(self, trial: Trial, until: int | None) -> None:
        self._add("started", number=trial.number, until=until)

    def _until(self, trial: Trial) -> int | None:
        if not self._pausing or self.spec.is_script or trial.role != "search":
            return None
        ahead = rungs.rungs(self.spec, self._epochs_of(trial.hyperparameters), trial.bracket)
        return next((at for at in ahead if at > max(trial.rungs, default=0)), None)

    def _go_on(self, trial: Trial) -> None:
        self._submit(trial, self._until(trial))

    def _epochs_of(self, values: dict[str, object]) -> int:
        found = values.get("epochs", self.spec.job.get("epochs"))
        return int(str(found)) if found is not None else USUAL_EPOCHS

    # ------------------------------------------------------------------------------------- limits

    def _late(self) -> bool:
        if self.spec.minutes is None:
            return False
        return self.state.seconds + max(0.0, time.time() - self.state.last) >= 60 * self.spec.minutes

    def _affordable(self, trial: Trial | None) -> bool:
        """Whether one more trial, or one more rung of this one, stays within the epochs that are left."""
        if self.spec.budget is None:
            return True
        begun = sum(self._planned(each) for each in self.state.running)
        done = sum(each.epochs for each in self.state.trials if each not in self.state.running)
        ahead = rungs.first(self.spec, self._epochs_of({})) if self._pausing else self._epochs_of({})
        if trial is not None:
            ahead = self._planned(trial) - trial.epochs
        return done + begun + ahead <= self.spec.budget

    def _planned(self, trial: Trial) -> int:
        until = self._until(trial) if trial.state == "PAUSED" else trial.until
        return until or self._epochs_of(trial.hyperparameters)

    # ------------------------------------------------------------------------------------- running trials

    def _look(self) -> bool:
        """Take in what happened to running jobs; says whether one has ended."""
        ended = False
        for trial in list(self.state.running):
            if trial.number not in self._seen:
                continue
            job = trials.job_of(self.place, trial)
            seen = self._seen[trial.number]
            pid = self._pid(trial)
            if seen.changed(job, "status.json") or (pid is not None and self._processes.ended(pid)):
                self._status[trial.number] = now = base.status(job)
                if now.state in FINAL_STATES:
                    self._take_in(trial, now)
                    ended = True
                    continue
            if trial.number in self._asked:
                continue
            if seen.changed(job, "findings.json") and (why := faults.sick(job, self.spec.is_script)):
                self._ask_to_stop(trial, "PRUNED", why)
            elif self._late() and self.state.phase == "search":
                self._ask_to_stop(trial, "PRUNED", "the time of the search was over")
            elif self._watching and trial.searched and seen.changed(job, "records/events.jsonl"):
                self._weigh(trial)
        return ended

    def _ask_to_stop(self, trial: Trial, state: str, reason: str) -> None:
        self._asked[trial.number] = (state, reason)
        base.request_stop(trials.job_of(self.place, trial), GRACE)

    def _weigh(self, trial: Trial) -> None:
        """Stop a trial that is not worth going on with."""
        course = self._course(trial)
        others = [self._course(each) for each in self.state.searched if each is not trial and each.state != "DECIDED"]
        if trial.role == "default" or not course:
            return
        if self.spec.pruning == "median" and rungs.hopeless(self.spec, course, others):
            self._ask_to_stop(trial, "PRUNED", "worse than half of the others at its age")
        elif (
            self._pausing
            and self.spec.is_script
            and rungs.behind(self.spec, course, others, self._epochs_of(trial.hyperparameters))
        ):
            self._ask_to_stop(trial, "PRUNED", f"not among the best 1/{self.spec.reduction} at its age")

    def _course(self, trial: Trial) -> list[float]:
        if trial.number not in self._courses:
            job = trials.job_of(self.place, trial)
            self._courses[trial.number] = Course(job.records, *curve_of(self.spec))
        return self._courses[trial.number].read()

    def _take_in(self, trial: Trial, now: Status) -> None:
        """The job has ended: completed, at a rung, as it was asked to, or in some other way."""
        job = trials.job_of(self.place, trial)
        asked = self._asked.pop(trial.number, None)
        course = self._course(trial)
        if now.state == "COMPLETED":
            found = outcome(job, self.spec)
            if found.value is None:
                said = f"it recorded no {self.spec.objective}" if trial.role != "final" else ""
                self._end(trial, "COMPLETED" if trial.role == "final" else "FAILED", said, now)
            else:
                self._end(trial, "COMPLETED", "", now)
        elif asked is not None:
            self._end(trial, asked[0], asked[1], now)
        elif now.state == "STOPPED" and trial.until is not None and len(course) >= trial.until:
            self._add("paused", number=trial.number, epochs=len(course), value=course[trial.until - 1])
            log.info("Trial %d paused after %d epochs at %.6g.", trial.number, len(course), course[trial.until - 1])
        elif not trial.retried and now.state == "FAILED" and faults.of_the_machine(job, now):
            log.warning("Trial %d is tried once more: %s.", trial.number, now.reason.rstrip("."))
            self._add("retried", number=trial.number, reason=now.reason)
            self._submit(trial, trial.until)
        else:
            state = "STOPPED" if now.state == "STOPPED" else "FAILED"
            self._end(trial, state, faults.why_failed(job, now) if state == "FAILED" else now.reason, now)

    def _end(self, trial: Trial, state: str, reason: str, now: Status | None = None) -> None:
        job = trials.job_of(self.place, trial)
        found = outcome(job, self.spec) if state == "COMPLETED" else None
        course = self._course(trial) if now is not None else []
        seconds = now.ended - now.started if now and now.ended and now.started else 0.0
        self._add(
            "ended",
            number=trial.number,
            state=state,
            value=found.value if found else None,
            low=found.low if found else None,
            high=found.high if found else None,
            n=found.n if found else None,
            metrics=found.metrics if found else {},
            epochs=len(course),
            rungs={len(course): course[-1]} if state == "PRUNED" and course else {},
            seconds=round(trial.seconds + seconds, 3),
            seedless=state == "COMPLETED" and trials.seedless(job, self.spec),
            reason=reason,
            used=trials.used(job, self.spec) if now is not None else {},
        )
        said = f"{found.value:.6g}" if found and found.value is not None else reason
        log.log(logging.WARNING if state == "FAILED" else logging.INFO, "Trial %d %s: %s", trial.number, state, said)
        if found is not None:
            finish.write_best(self.spec, self.state, self.folder, self.place)

    # ------------------------------------------------------------------------------------- phases

    def _next_phase(self) -> None:
        """Nothing runs and nothing can be started: the phase is over."""
        if self.state.phase == "search":
            for trial in self.state.searched:
                if trial.state == "PAUSED":
                    self._add_pruned(trial)
            completed = [each for each in self.state.searched if each.state == "COMPLETED"]
            if not completed:
                self._add("phase", name="done")
                raise JobError(*faults.nothing_came(self.state))
        following = {"search": "reseed", "reseed": "final", "final": "done"}
        self._add("phase", name=following[self.state.phase])

    def _add_pruned(self, trial: Trial) -> None:
        course = self._course(trial)
        self._add(
            "ended", number=trial.number, state="PRUNED", value=None, low=None, high=None, n=None, metrics={},
            epochs=len(course), seconds=trial.seconds, reason=f"others were better after {max(trial.rungs)} epochs",
            used=trials.used(trials.job_of(self.place, trial), self.spec),
        )  # fmt: skip

    def _halt(self) -> None:
        """Stop what runs, to be gone on with: no event says that it ended."""
        running = [trials.job_of(self.place, each) for each in self.state.running if each.number in self._seen]
        for job in running:
            if base.status(job).state not in FINAL_STATES:
                base.request_stop(job, GRACE)
        for job in running:
            self._backend.stop(job, GRACE)
