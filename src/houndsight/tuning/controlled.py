"""The controller of a tuning as a back end sees it: a job whose folder is the tuning's."""

from pathlib import Path

from houndsight.folders import JobFolder


class Controlled(JobFolder):
    """Status, log, lock and request to stop lie where those of a job do; only the spec has a name of its own."""

    @property
    def spec(self) -> Path:
        """What was asked for."""
        return self.path / "tuning.json"
