"""Every file name of the house: what stands where in the folder of a job, a tuning, an endpoint."""

import hashlib
from dataclasses import dataclass
from pathlib import Path


def thumbnail_name(path: str) -> str:
    """File name, in `JobFolder.thumbnails`, of the small picture of an image whose path within the data is `path`."""
    return hashlib.sha256(path.encode()).hexdigest()[:20] + ".jpg"


def drop_in() -> Path:
    """Folder for the import path of scripts and notebooks written for SageMaker; it holds `smdebug`, nothing else."""
    return Path(__file__).parent / "scripts" / "drop_in"


@dataclass(frozen=True)
class JobFolder:
    """The files of one job; every name of a job's file stands here and nowhere else."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the job: the folder's own name."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """What was asked for."""
        return self.path / "spec.json"

    @property
    def status(self) -> Path:
        """Where it stands."""
        return self.path / "status.json"

    @property
    def plan(self) -> Path:
        """What was decided from the spec, the data and the machine; a resumed job keeps it."""
        return self.path / "plan.json"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.path / "log.txt"

    @property
    def progress(self) -> Path:
        """How far the present stage is; rewritten a few times a second while the job runs."""
        return self.path / "progress.json"

    @property
    def stop_request(self) -> Path:
        """Exists when somebody asked the job to stop."""
        return self.path / "stop"

    @property
    def pause(self) -> Path:
        """Holds the number of epochs after which the training pauses, to go on later; exists where it is to."""
        return self.path / "pause"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the job."""
        return self.path / "lock"

    @property
    def reserve(self) -> Path:
        """A little room that a running job keeps on the disk, to be able to say that the disk is full."""
        return self.path / ".reserve"

    @property
    def index(self) -> Path:
        """The data as it was found."""
        return self.path / "index.json"

    @property
    def check(self) -> Path:
        """What is wrong with the data."""
        return self.path / "check.json"

    @property
    def thumbnails(self) -> Path:
        """Folder of small pictures of the images that findings name; see `thumbnail_name`."""
        return self.path / "thumbnails"

    @property
    def records(self) -> Path:
        """Folder of scalars, spans and statistics."""
        return self.path / "records"

    @property
    def findings(self) -> Path:
        """What the rules found."""
        return self.path / "findings.json"

    @property
    def profile(self) -> Path:
        """What limited its speed, and where the time went."""
        return self.path / "profile.json"

    @property
    def rule_output(self) -> Path:
        """Folder of the rules' results in SageMaker's shapes."""
        return self.path / "rule-output"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        """Folder of results."""
        return self.path / "evaluation"

    @property
    def model(self) -> Path:
        """Folder of the artifact."""
        return self.path / "model"

    @property
    def output(self) -> Path:
        """Folder of packed results."""
        return self.path / "output"

    @property
    def model_archive(self) -> Path:
        """The artifact as SageMaker packs it."""
        return self.output / "model.tar.gz"

    @property
    def failure(self) -> Path:
        """Why the job failed, as SageMaker words it."""
        return self.output / "failure"

    @property
    def output_archive(self) -> Path:
        """What a script wrote beside its model, as SageMaker packs it."""
        return self.output / "output.tar.gz"

    @property
    def input(self) -> Path:
        """Folder of a script's configuration and of links to its data."""
        return self.path / "input"

    @property
    def code(self) -> Path:
        """Folder of a script job's copy of its code; the script's working directory."""
        return self.path / "code"

    @property
    def scratch(self) -> Path:
        """Folder of a script's temporary files; there only while it runs."""
        return self.path / "tmp"

    @property
    def script(self) -> Path:
        """How a script ran: command, exit code, metrics, and where it failed."""
        return self.path / "script.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def tensors_picture(self) -> Path:
        """Curves of the tensors that were asked for last."""
        return self.path / "tensors.svg"

    @property
    def report_data(self) -> Path:
        """The page's JSON twin."""
        return self.path / "report.json"

    def comparison(self, other: str) -> Path:
        """The page that compares this job with `other`; its JSON twin lies beside it."""
        return self.path / f"compared-with-{other}.html"

    @property
    def sagemaker_page(self) -> Path:
        """The profiler's page in SageMaker's place."""
        return self.rule_output / "ProfilerReport" / "profiler-output" / "profiler-report.html"


@dataclass(frozen=True)
class TuningFolder:
    """The files of one tuning; its trials are jobs of the same workspace."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the tuning: the folder's own name."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """What was asked for."""
        return self.path / "tuning.json"

    @property
    def status(self) -> Path:
        """Where it stands."""
        return self.path / "status.json"

    @property
    def events(self) -> Path:
        """What happened, one JSON object a line; the search is rebuilt from it after a crash."""
        return self.path / "events.jsonl"

    @property
    def index(self) -> Path:
        """The data as it was found; every trial gets a copy."""
        return self.path / "index.json"

    @property
    def code(self) -> Path:
        """Folder of the script's code as it was when the tuning was made; every trial gets a copy."""
        return self.path / "code"

    @property
    def log(self) -> Path:
        """What the controller printed."""
        return self.path / "log.txt"

    @property
    def stop_request(self) -> Path:
        """Exists when somebody asked the tuning to stop."""
        return self.path / "stop"

    @property
    def lock(self) -> Path:
        """Held by the controller."""
        return self.path / "lock"

    @property
    def best(self) -> Path:
        """The best trial, its hyperparameters and measures."""
        return self.path / "best.json"

    @property
    def findings(self) -> Path:
        """What is remarkable about the search."""
        return self.path / "findings.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def report_data(self) -> Path:
        """The page's JSON twin."""
        return self.path / "report.json"


@dataclass(frozen=True)
class EndpointFolder:
    """The files of one endpoint."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the endpoint: the folder's own name."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """What it serves and how: variants, instances, limits."""
        return self.path / "endpoint.json"

    @property
    def status(self) -> Path:
        """Where it stands: state, address, supervisor, instances."""
        return self.path / "status.json"

    @property
    def log(self) -> Path:
        """What supervisor and instances printed."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the supervisor."""
        return self.path / "lock"

    @property
    def control(self) -> Path:
        """Unix socket by which the supervisor is told what to do."""
        return self.path / "control.sock"

    @property
    def capture(self) -> Path:
        """Folder of captured requests and answers."""
        return self.path / "capture"

    @property
    def models(self) -> Path:
        """Folder of the models it serves, one folder a revision: its own copies, so that a job may be deleted."""
        return self.path / "models"

    @property
    def metrics(self) -> Path:
        """Folder in which the instances share their counters (`PROMETHEUS_MULTIPROC_DIR`)."""
        return self.path / "metrics"

    @property
    def sockets(self) -> Path:
        """Folder of the unix sockets by which one instance reaches another."""
        return self.path / "sockets"

    @property
    def key(self) -> Path:
        """The key that callers have to know, where there is one; readable by its owner alone."""
        return self.path / "key"
