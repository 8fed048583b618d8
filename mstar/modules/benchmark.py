"""``test`` of a policy on a benchmark, with votes over samples."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule

from mstar.datamodules.usable import PromptBatch
from mstar.distributed import gather_lists, is_main
from mstar.errors import ConfigError
from mstar.evaluation.benchmark import OURS, ItemResult, grade_item, score_benchmark
from mstar.evaluation.benchmark_files import render_scores, write_items, write_scores
from mstar.evaluation.benchmark_shards import ResponseShards
from mstar.evaluation.dynamics import add_process_rewards
from mstar.evaluation.greedy import GREEDY
from mstar.generation import Engine, Request, plan_samples
from mstar.grading import AnswerGrader, Grader, MathVistaGrader
from mstar.models.fingerprint import fingerprint_model
from mstar.models.precision import name_of, resolve_dtype
from mstar.models.step_scorer import check_step_scorer
from mstar.modules.policy import PolicyModule
from mstar.modules.run_precision import device_of
from mstar.prompts import PromptSource
from mstar.prompts.benchmarks import BenchmarkItem, BenchmarkSource, MathVista
from mstar.provenance import describe, fingerprint_prompts
from mstar.rewards import MPRM, RewardHost
from mstar.storage import PromptResponses
from mstar.types import Prompt, Response

__all__ = ["BenchmarkModule", "benchmark_notes", "find_benchmark"]

_OFFICIAL = "official"
_LONGEST_STEM = 120


class BenchmarkModule(PolicyModule):
    """Scores a policy on a benchmark: greedy accuracy, and with samples Pass@K, majority and votes by an MPRM.

    ``test`` writes ``<benchmark>.md`` (a table by category, with bootstrap intervals), ``<benchmark>.json`` (the same)
    and ``<benchmark>.parquet`` (every row with its responses and verdicts) into ``trainer.default_root_dir``. Records
    of one's own go by their path (``data/mine.jsonl`` makes ``data-mine.md``).
    Responses are kept there batch by batch, in ``<benchmark>-responses``: an interrupted run goes on where it stopped,
    and another ``scoring`` or ``reward_model`` needs no new ones.

    Args:
        model_name: The policy: a Hugging Face folder or model id.
        num_samples: K, the responses that are sampled for a prompt beside the greedy one; 0 for none.
        temperature: Sampling temperature of the K responses.
        reward_model: Folder of an MPRM for best-of-N and the weighted vote; none leaves them out.
        reward_batch_size: Responses that the MPRM scores at the same time.
        scoring: ours; official (the benchmark's published rules; MathVista's are known, the others ask a language
            model); or both, with the difference.
        grader: Decides whether an answer is right by our rules; none is the general grader.
        official_grader: The same by published rules; none is the benchmark's own.
        engine: Draws the responses; none is the Transformers engine with the two settings below.
        max_new_tokens: Longest response.
        generation_batch_size: How many responses are written at the same time; by default as many as a GPU's memory
            holds, and 64 on a CPU.
        dtype: Type of the stored weights, the MPRM's too: float32, bfloat16, float16, or auto (16 bits on CUDA, else
            float32).
        attention: Attention kernel: auto, sdpa, eager, flash_attention_2, flash_attention_4.
        seed: Seed of the samples and of the bootstrap.
        resamples: Resamples of the bootstrap.
        trust_remote_code: Run Python code that comes with the policy and the MPRM; read it first.
        revision: Commit, tag or branch of a model id; with trust_remote_code it must be a commit.

    Raises:
        ConfigError: two settings contradict each other.
    """

    def __init__(
        self,
        model_name: str,
        num_samples: int = 0,
        temperature: float = 1.0,
        reward_model: str | None = None,
        reward_batch_size: int = 64,
        scoring: Literal["ours", "official", "both"] = "ours",
        grader: Grader | None = None,
        official_grader: Grader | None = None,
        engine: Engine | None = None,
        max_new_tokens: int = 1024,
        generation_batch_size: int | None = None,
        dtype: str = "auto",
        attention: str | None = "auto",
        seed: int = 0,
        resamples: int = 1000,
        trust_remote_code: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__(
            model_name,
            dtype=dtype,
            attention=attention,
            max_new_tokens=max_new_tokens,
            generation_batch_size=generation_batch_size,
            grader=grader or AnswerGrader(sentences=True),
            trust_remote_code=trust_remote_code,
            revision=revision,
        )
        if num_samples < 0:
            raise ConfigError(f"model.num_samples is {num_samples}, but it must not be negative.")
        if num_samples and temperature <= 0:
            raise ConfigError(f"model.temperature is {temperature}, but samples need one above 0.")
        if reward_model is not None and not num_samples:
            raise ConfigError("model.reward_model ranks samples, but model.num_samples is 0; set it, e.g. to 16.")
        if resamples < 1:
            raise ConfigError(f"model.resamples is {resamples}, but an interval needs at least 1.")
        self.num_samples = num_samples
        self.temperature = temperature
        self.reward_model = reward_model
        self.reward_batch_size = reward_batch_size
        self.scoring = scoring
        self.official_grader = official_grader
        self.graders: dict[str, Grader] = {}
        self.generation: Engine = engine or self.engine
        self.seed = seed
        self.resamples = resamples
        self._reward: MPRM | None = None
        self._items: list[ItemResult] = []
        self._shards: ResponseShards | None = None
        self._weights = ""

    def configure_model(self) -> None:
        """Loads the model in the type that ``dtype`` stands for where it will be."""
        self.dtype_name = resolve_dtype(self.dtype_name, device_of(self))
        super().configure_model()

    def on_test_start(self) -> None:
        """Readies the engine, and says which gold answers cannot be graded.

        Raises:
            ConfigError: official scores are asked for, but the benchmark's rules are not known; or the MPRM's folder is
                missing or lacks a part.
        """
        self._items = []
        self.graders = {} if self.scoring == _OFFICIAL else {OURS: self.grader}
        if self.scoring != OURS:
            self.graders[_OFFICIAL] = self.official_grader or _official_grader(find_benchmark(self))
        if self.reward_model is not None:
            check_step_scorer(Path(self.reward_model))
        source = find_benchmark(self)
        if is_main():
            for name, grader in self.graders.items():
                bad = [p.id for p in source if not grader.is_gradeable(p)]
                if bad:
                    sys.stderr.write(
                        f"{source.title}: {len(bad)} of {len(source)} gold answers cannot be graded ({name}), and "
                        f"count as wrong: {', '.join(bad[:10])}{' ...' if len(bad) > 10 else ''}\n"
                    )
        self.generation.start(self.policy, self.renderer)
        self._weights = fingerprint_model(self.policy)
        self._shards = ResponseShards(
            Path(self.trainer.default_root_dir, f"{_stem(source)}-responses"),
            {
                "policy": self._weights,
                "dtype": self.dtype_name,
                "compute": self.compute_precision.name,
                "engine": describe(self.generation),
                "max_new_tokens": self.generation.max_new_tokens,
                "num_samples": self.num_samples,
                "temperature": self.temperature,
                "seed": self.seed,
                "prompts": fingerprint_prompts(source),
            },
        )
        if len(self._shards) and is_main():
            sys.stderr.write(
                f"{source.title}: the responses of an earlier run to {len(self._shards)} rows are used again; see "
                f"{self._shards.folder}\n"
            )

    def test_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answers and grades a batch of prompts; rows that an earlier run answered are graded alone."""
        assert self._shards is not None  # noqa: S101 - it is opened when the test starts
        answered = {p.id: found for p in batch.prompts if (found := self._shards.find(p.id)) is not None}
        missing = [prompt for prompt in batch.prompts if prompt.id not in answered]
        answered |= {p.id: row for p, row in zip(missing, self._answer(missing), strict=True)}
        items = [grade_item(prompt, answered[prompt.id], self.graders) for prompt in batch.prompts]
        graded = {item.prompt_id: (item.greedy, *item.samples) for item in items}
        self._shards.add([PromptResponses(prompt, graded[prompt.id]) for prompt in missing])
        if self.reward_model is not None:
            groups = [PromptResponses(p, item.samples) for p, item in zip(batch.prompts, items, strict=True)]
            with self.compute_precision.context(self.device):
                rated = add_process_rewards(groups, self._loaded_reward(self.reward_model))
            items = [
                ItemResult(item.prompt_id, item.greedy, group.responses, item.others)
                for item, group in zip(items, rated, strict=True)
            ]
        self._items += items

    def _loaded_reward(self, folder: str) -> MPRM:
        # When it is first needed: a policy and an engine are loaded before it.
        if self._reward is None:
            precision = self.compute_precision
            dtype: Any = name_of(precision.weights)
            self._reward = MPRM(folder, self.reward_batch_size, dtype=dtype, progress=False)
            self._reward.load(RewardHost(self.device, precision, self.attention, self.trust_remote_code))
        return self._reward

    def _answer(self, prompts: list[Prompt]) -> list[list[Response]]:
        source = find_benchmark(self)
        # Not by its path: the samples would change with it.
        stage = f"benchmark/{source.name if isinstance(source, BenchmarkSource) else type(source).__name__}"
        requests = [
            Request(
                prompt,
                (GREEDY, *plan_samples(self.seed, stage, prompt.id, self.num_samples, self.temperature, first_index=1)),
            )
            for prompt in prompts
        ]
        with self.compute_precision.context(self.device):
            return self.generation.generate(requests) if requests else []

    def on_test_epoch_end(self) -> None:
        """Scores the benchmark, writes its files, and logs the scores of all questions as ``test/<metric>``."""
        # Several processes: the sampler gives some prompts twice, so that all have equally many; they count once.
        found = {item.prompt_id: item for item in gather_lists(self._items)}
        self._items = []
        source = find_benchmark(self)
        rows = {item.prompt.id: item for item in _rows(source) if item.prompt.id in found}
        items = [found[prompt_id] for prompt_id in rows]
        facets = {prompt_id: row.facets for prompt_id, row in rows.items()}
        keys = {prompt_id: row.question_key for prompt_id, row in rows.items()}
        result = score_benchmark(
            source.title,
            items,
            facets,
            keys,
            scorings=tuple(self.graders),
            averaged=source.averaged if isinstance(source, BenchmarkSource) else "",
            seed=self.seed,
            resamples=self.resamples,
        )
        for score in result.scores:
            if score.dimension == "all":
                suffix = "" if score.scoring == OURS else f"_{score.scoring}"
                self.log(f"test/{score.metric}{suffix}", score.score, sync_dist=True)
        if is_main():
            folder = Path(self.trainer.default_root_dir)
            stem = _stem(source)
            prompts = {prompt_id: row.prompt for prompt_id, row in rows.items()}
            write_items(folder / f"{stem}.parquet", items, prompts, facets, keys)
            notes = [*self._settings(len(source), len(items)), *benchmark_notes(source)]
            path = write_scores(folder, stem, result, notes)
            sys.stdout.write(f"{render_scores(result, notes)}\n{path}\n")

    def teardown(self, stage: str) -> None:
        """Releases the engine and the MPRM."""
        self.generation.close()
        self._reward = None

    def _settings(self, rows: int, answered: int) -> list[str]:
        checkpoint = f", checkpoint {self.trainer.ckpt_path}" if self.trainer.ckpt_path else ""
        notes = [f"Policy: {self.model_name}{checkpoint}, weights {self._weights}."]
        if answered < rows:
            notes.append(f"Only {answered} of {rows} rows were answered, so the scores do not compare with others.")
        if self.num_samples:
            notes.append(f"{self.num_samples} samples a row at temperature {self.temperature:g}, seed {self.seed}.")
        if self.reward_model is not None:
            notes.append(f"MPRM: {self.reward_model}.")
        if OURS in self.graders and isinstance(self.grader, AnswerGrader):
            read = "in a form or in a sentence" if self.grader.sentences else "in a form only"
            notes.append(f"Answers are read where they are given {read} (AnswerGrader: sentences).")
        return notes


def find_benchmark(module: LightningModule) -> PromptSource:
    """The prompts that a module is tested on.

    Raises:
        ConfigError: the data has none.
    """
    source = getattr(module.trainer.datamodule, "test", None)  # type: ignore[attr-defined]
    if not isinstance(source, PromptSource):
        raise ConfigError("a benchmark module needs data.test, the benchmark's prompts; set it.")
    return source


def _official_grader(source: PromptSource) -> Grader:
    if isinstance(source, MathVista):
        return MathVistaGrader()
    raise ConfigError(
        f"{source.title} has no published rules that need no language model, so model.scoring must be 'ours'; or set "
        "model.official_grader."
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


def benchmark_notes(source: PromptSource) -> list[str]:
    """What a reader of a benchmark's scores must know of it, its licence included."""
    if not isinstance(source, BenchmarkSource):
        return []
    return [*source.notes, *([f"Licence of {source.name}: {source.licence}."] if source.licence else [])]
