"""``test`` of a policy on a benchmark, with votes over samples."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from mstar.callbacks.rollout_check import require_policy
from mstar.datamodules.benchmark import find_benchmark
from mstar.distributed import gather_lists, is_main, sum_all
from mstar.errors import ConfigError, require_least, require_positive
from mstar.evaluation.benchmark import OURS, ItemResult, grade_items, score_benchmark
from mstar.evaluation.benchmark_files import benchmark_notes, render_scores, write_items, write_scores
from mstar.evaluation.benchmark_shards import ResponseShards
from mstar.evaluation.gradeable import check_prompts
from mstar.generation import Request, draw_responses, plan_samples
from mstar.generation.base import GREEDY
from mstar.grading import AnswerGrader, Grader, MathVistaGrader
from mstar.models.precision import name_of
from mstar.modules.policy import PolicyModule
from mstar.prompts import PromptSource
from mstar.prompts.benchmarks import BenchmarkItem, BenchmarkSource, MathVista
from mstar.provenance import describe, fingerprint_prompts
from mstar.rewards import MPRM, Aggregation, Reward, RewardHost, add_process_rewards
from mstar.storage import PromptResponses
from mstar.types import Prompt

_OFFICIAL: Final = "official"
_LONGEST_STEM: Final = 120
_log: Final = logging.getLogger(__name__)


class BenchmarkCallback(Callback):
    """Has ``test`` score a policy on a benchmark: greedy accuracy, and with samples Pass@K and votes.

    ``test`` writes ``<benchmark>.md`` (a table by category, with bootstrap intervals), ``<benchmark>.json`` (the same)
    and ``<benchmark>.parquet`` (every row with its responses and verdicts) into ``trainer.default_root_dir``. Records
    of one's own go by their path (``data/mine.jsonl`` makes ``data-mine.md``).
    Responses are kept there batch by batch, in ``<benchmark>-responses``: an interrupted run goes on where it stopped,
    and another ``scoring`` or reward needs no new ones. They are drawn by the policy's engine.

    Args:
        num_samples: K, the responses that are sampled for a prompt beside the greedy one; 0 for none.
        temperature: Sampling temperature of the K responses.
        reward_model: Folder of an MPRM for best-of-N and the weighted vote; none leaves them out, without ``reward``.
        reward_batch_size: Responses that the MPRM scores at the same time.
        scoring: ours; official (the benchmark's published rules; MathVista's are known, the others ask a language
            model); or both, with the difference.
        grader: Decides whether an answer is right by our rules; none is the general grader, with sentences.
        official_grader: The same by published rules; none is the benchmark's own.
        seed: Seed of the samples and of the bootstrap.
        resamples: Resamples of the bootstrap.
        reward: Another reward than an MPRM, such as ``mstar.rewards.published.VisualPRM``.
        aggregation: What makes one number of a response's step scores: min, mean, product, last, or
            min_without_answer.

    Raises:
        ConfigError: two settings contradict each other.
    """

    def __init__(
        self,
        num_samples: int = 0,
        temperature: float = 1.0,
        reward_model: str | None = None,
        reward_batch_size: int = 64,
        scoring: Literal["ours", "official", "both"] = "ours",
        grader: Grader | None = None,
        official_grader: Grader | None = None,
        seed: int = 0,
        resamples: int = 1000,
        reward: Reward | None = None,
        aggregation: Aggregation = "min",
    ) -> None:
        super().__init__()
        require_least("benchmark.", 0, num_samples=num_samples)
        require_least("benchmark.", resamples=resamples)
        if num_samples:
            require_positive("benchmark.", temperature=temperature)
        if reward_model is not None and reward is not None:
            raise ConfigError("benchmark.reward_model is short for an MPRM as benchmark.reward: set one of the two.")
        if (reward_model is not None or reward is not None) and not num_samples:
            given = "reward" if reward_model is None else "reward_model"
            raise ConfigError(f"benchmark.{given} ranks samples, but benchmark.num_samples is 0; set it to 16.")
        if official_grader is not None and scoring == OURS:
            raise ConfigError(
                "benchmark.official_grader grades nothing while benchmark.scoring is ours: set it to both."
            )
        self.num_samples = num_samples
        self.temperature = temperature
        self.reward_model = reward_model
        self.reward_batch_size = reward_batch_size
        self.scoring = scoring
        self.grader = grader or AnswerGrader(sentences=True)
        self.official_grader = official_grader
        self.graders: dict[str, Grader] = {}
        self.seed = seed
        self.resamples = resamples
        self.reward = reward
        self.aggregation = aggregation
        self._items: list[ItemResult] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the responses of an earlier run, and says which gold answers cannot be graded.

        Raises:
            ConfigError: official scores are asked for, but the benchmark's rules are not known; or the reward's model
                is missing or lacks a part.
            DataError: most gold answers cannot be graded, or a prompt has none.
        """
        policy, source = require_policy(pl_module, "benchmark scores"), find_benchmark(trainer)
        self._items = []
        self.graders = {} if self.scoring == _OFFICIAL else {OURS: self.grader}
        if self.scoring != OURS:
            self.graders[_OFFICIAL] = self.official_grader or _official_grader(source)
        if self.reward_model is not None:
            dtype: Any = name_of(policy.compute_precision.weights)
            self.reward = MPRM(self.reward_model, self.reward_batch_size, dtype=dtype)
        if self.reward is not None:
            self.reward.aggregation, self.reward.progress = self.aggregation, False
            self.reward.check()
        for name, grader in self.graders.items():
            check_prompts(source, f"{source.title} ({name})", grader)
        shards = ResponseShards(
            Path(trainer.default_root_dir, f"{_stem(source)}-responses"),
            {
                "policy": policy.writer()["weights"],
                "dtype": policy.dtype_name,
                "compute": policy.compute_precision.name,
                "engine": describe(policy.engine),
                "max_new_tokens": policy.engine.max_new_tokens,
                "num_samples": self.num_samples,
                "temperature": self.temperature,
                "seed": self.seed,
                "prompts": fingerprint_prompts(source),
            },
        )
        if len(shards) and is_main():
            _log.info(
                "%s: the responses of an earlier run to %d rows are used again; see %s",
                *(source.title, len(shards), shards.folder),
            )
        # By its name, not by its path: the samples would change with it.
        stage = f"benchmark/{source.name if isinstance(source, BenchmarkSource) else type(source).__name__}"
        policy.on_test_prompts = lambda prompts: self._score(policy, prompts, stage, shards)

    def _score(self, policy: PolicyModule, prompts: list[Prompt], stage: str, shards: ResponseShards) -> None:
        """Answers and grades a batch of prompts; rows that an earlier run answered are graded alone."""
        answered = {p.id: found for p in prompts if (found := shards.find(p.id)) is not None}
        missing = [prompt for prompt in prompts if prompt.id not in answered]
        count, temperature = self.num_samples, self.temperature
        requests = [
            Request(p, (GREEDY, *plan_samples(self.seed, stage, p.id, count, temperature, first_index=1)))
            for p in missing
        ]
        with policy.compute_precision.context(policy.device):
            drawn = draw_responses(policy.engine, requests) if requests else []
        answered |= {prompt.id: row for prompt, row in zip(missing, drawn, strict=True)}
        items = grade_items(prompts, [answered[prompt.id] for prompt in prompts], self.graders)
        graded = {item.prompt_id: (item.greedy, *item.samples) for item in items}
        shards.add([PromptResponses(prompt, graded[prompt.id]) for prompt in missing])
        if self.reward is not None:
            groups = [PromptResponses(p, item.samples) for p, item in zip(prompts, items, strict=True)]
            precision = policy.compute_precision
            with precision.context(policy.device):
                # When it is first needed: a policy and an engine are loaded before it.
                self.reward.load(RewardHost(policy.device, precision, policy.attention, policy.trust_remote_code))
                rated = add_process_rewards(groups, self.reward)
            items = [replace(item, samples=group.responses) for item, group in zip(items, rated, strict=True)]
        self._items += items

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores the benchmark, writes its files, and logs the scores of all questions as ``test/<metric>``."""
        policy, source = require_policy(pl_module, "benchmark scores"), find_benchmark(trainer)
        policy.engine.rest()
        # Several processes: the sampler gives some prompts twice, so that all have equally many; they count once.
        found = {item.prompt_id: item for item in gather_lists(self._items)}
        self._items = []
        rows = {item.prompt.id: item for item in _rows(source) if item.prompt.id in found}
        items = [found[prompt_id] for prompt_id in rows]
        result = score_benchmark(
            source.title,
            items,
            rows,
            scorings=tuple(self.graders),
            averaged=source.averaged if isinstance(source, BenchmarkSource) else "",
            figures=source.figures if isinstance(source, BenchmarkSource) else lambda correct: {},
            seed=self.seed,
            resamples=self.resamples,
        )
        for score in result.scores:
            if score.dimension == "all":
                suffix = "" if score.scoring == OURS else f"_{score.scoring}"
                pl_module.log(f"test/{score.metric}{suffix}", score.score, sync_dist=True)
        made_by = policy.writer()
        judged = [sum_all(grader.judged()) for grader in self.graders.values()]
        if is_main():
            folder = Path(trainer.default_root_dir)
            stem = _stem(source)
            write_items(folder / f"{stem}.parquet", items, rows)
            checkpoint = f", checkpoint {trainer.ckpt_path}" if trainer.ckpt_path else ""
            name = made_by["model"] if policy.by_address else f"{policy.model_name}{checkpoint}"
            notes = [
                f"Policy: {name}, weights {made_by['weights']}.",
                *self._settings(len(source), len(items)),
                *(note for counts in judged for note in counts.notes()),
                *benchmark_notes(source),
            ]
            path = write_scores(folder, stem, result, notes)
            tqdm.write(f"{render_scores(result, notes)}\n{path}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Releases the reward's memory."""
        if self.reward is not None:
            self.reward.release()
        if isinstance(pl_module, PolicyModule):
            pl_module.on_test_prompts = None

    def _settings(self, rows: int, answered: int) -> list[str]:
        notes = []
        if answered < rows:
            notes.append(f"Only {answered} of {rows} rows were answered, so the scores do not compare with others.")
        if self.num_samples:
            notes.append(f"{self.num_samples} samples a row at temperature {self.temperature:g}, seed {self.seed}.")
        if self.reward is not None:
            of = getattr(self.reward, "model", None) or getattr(self.reward, "folder", "")
            name = self.reward_model or f"{type(self.reward).__name__} {of}".rstrip()
            notes.append(f"{'MPRM' if self.reward_model else 'Reward'}: {name}, by the {self.aggregation} of steps.")
        if OURS in self.graders and isinstance(self.grader, AnswerGrader):
            read = "in a form or in a sentence" if self.grader.sentences else "in a form only"
            notes.append(f"Answers are read where they are given {read} (AnswerGrader: sentences).")
        return notes


def _official_grader(source: PromptSource) -> Grader:
    if isinstance(source, MathVista):
        return MathVistaGrader()
    raise ConfigError(
        f"{source.title} has no published rules that can be applied here, so benchmark.scoring must be 'ours'; or set "
        "benchmark.official_grader."
    )


def _stem(source: PromptSource) -> str:
    """The name of its files: of a source that is called by its path, all of that, so that no two share them."""
    whole = re.sub(r"\.(jsonl?|parquet)$", "", source.title.lower())
    return re.sub(r"[^\w.-]+", "-", whole).strip("-.")[-_LONGEST_STEM:]


def _rows(source: PromptSource) -> list[BenchmarkItem]:
    """The rows of a benchmark; any other source's prompts are grouped by their category."""
    if isinstance(source, BenchmarkSource):
        return list(source.items)
    return [BenchmarkItem(p, (("category", p.category),) if p.category else (), p.id) for p in source]
