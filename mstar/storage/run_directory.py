"""The layout of a run's folder.

<root>/iterations/0003/responses-00000.parquet   every response, one shard for a fixed number of prompts
<root>/iterations/0003/examples.parquet          what the policy was trained on
<root>/iterations/0003/report.json               counts, rates and scores of the iteration
<root>/sweeps/0003.json                          what the temperatures that were tried before the iteration reached
<root>/validation.json                           of a fit without rollouts: scores of every epoch on the validation data
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where the files of one self-evolving run are."""

    root: Path

    @property
    def iterations(self) -> list[int]:
        """The numbers of the iterations that have a folder, in order."""
        folders = (self.root / "iterations").glob("[0-9]*")
        return sorted(int(folder.name) for folder in folders if folder.name.isdigit())

    def iteration(self, index: int) -> Path:
        """The folder of one iteration; iterations are counted from 1."""
        return self.root / "iterations" / f"{index:04d}"

    def responses(self, index: int, shard: int) -> Path:
        """A responses shard of one iteration; shards are counted from 0."""
        return self.iteration(index) / f"responses-{shard:05d}.parquet"

    def drop_responses(self, last: int, examples: int = 0) -> None:
        """Deletes the responses of all iterations up to ``last``, and the examples up to another one; reports stay."""
        for index in self.iterations:
            if index <= last:
                for path in self.iteration(index).glob("responses-*.parquet"):
                    path.unlink()
            if index <= examples:
                self.examples(index).unlink(missing_ok=True)

    def quarantine(self, index: int, shard: int) -> Path:
        """The prompts of one shard that could not be shown to the policy; there is no file if there are none."""
        return self.iteration(index) / f"quarantine-{shard:05d}.jsonl"

    def quarantines(self, index: int) -> list[Path]:
        """Those of one iteration, in order."""
        return sorted(self.iteration(index).glob("quarantine-*.jsonl"))

    def judged(self, index: int, shard: int) -> Path:
        """What a judge was asked about one shard; there is no file if that was nothing."""
        return self.iteration(index) / f"judge-{shard:05d}.json"

    def response_shards(self, index: int) -> list[Path]:
        """The responses shards of one iteration, in order."""
        return sorted(self.iteration(index).glob("responses-*.parquet"))

    def ahead(self, index: int) -> Path:
        """The folder of what is drawn of an iteration before it begins, until its shards have it."""
        return self.root / "ahead" / f"{index:04d}"

    def examples(self, index: int) -> Path:
        """What the policy was trained on in one iteration."""
        return self.iteration(index) / "examples.parquet"

    def report(self, index: int) -> Path:
        """Counts, rates and scores of one iteration."""
        return self.iteration(index) / "report.json"

    @property
    def validation(self) -> Path:
        """What each epoch of a fit without rollouts reached on the validation data, by number."""
        return self.root / "validation.json"

    def plan(self, index: int) -> Path:
        """What the responses of one iteration depend on."""
        return self.iteration(index) / "plan.json"

    def sweep(self, index: int) -> Path:
        """What the temperatures that were tried before one iteration reached, and what that depends on."""
        return self.root / "sweeps" / f"{index:04d}.json"

    def reward_model(self, index: int, fingerprint: str) -> Path:
        """The MPRM that was retrained before one iteration, on the policy with this fingerprint."""
        return self.root / "mprm" / f"{index:04d}-{fingerprint}"


def find_in_runs(folder: str | Path | None, pattern: str) -> Iterator[Path]:
    """What is in the folder of a run, or of several, up to two levels deep; nothing without a folder."""
    if folder is not None:
        for parents in ("", "*/", "*/*/"):
            yield from sorted(Path(folder).glob(parents + pattern))


def suggest_export(folder: Path, name: str) -> str:
    """What to add to an error, if a run's folder was given where the model that it exported is meant; else nothing."""
    # Its folder of checkpoints may have been given, too.
    roots = [root for root in (folder, folder.parent) if (root / "config.yaml").is_file()]
    # An MPRM that was retrained within the run lies deeper; the latest is meant.
    places = [place for root in roots for place in (root / name, *sorted(root.glob(f"{name}/*/model"), reverse=True))]
    found = next((place for place in places if (place / "config.json").is_file()), None)
    return "" if found is None or found == folder else f" It is the folder of a run: did you mean '{found}'?"


def suggest_run(folder: Path) -> str:
    """What to add to an error, if a model's folder was given where the run that exported it is meant; else nothing."""
    is_run = (folder / "config.json").is_file() and (folder.parent / "config.yaml").is_file()
    return f" It is a model: did you mean the run that exported it, '{folder.parent}'?" if is_run else ""
