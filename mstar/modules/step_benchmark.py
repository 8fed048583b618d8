"""``test`` of a reward on human step labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule
from tqdm import tqdm

from mstar.datamodules.benchmark import find_benchmark
from mstar.datamodules.quarantined import PromptBatch
from mstar.distributed import gather_lists, is_main
from mstar.errors import ConfigError, require_least, require_share
from mstar.evaluation.benchmark_files import benchmark_notes
from mstar.evaluation.benchmark_step_files import render_steps, write_step_scores
from mstar.evaluation.benchmark_steps import StepResult, score_steps
from mstar.models.precision import Precision, resolve_dtype
from mstar.modules.backbone_module import precision_of
from mstar.prompts.benchmarks import StepBenchmark
from mstar.rewards import MPRM, Reward, RewardHost, require_finite_scores


class StepBenchmarkModule(LightningModule):
    """Scores a reward on VisualProcessBench or ProcessBench: F1 of right and of wrong steps, and the first wrong step.

    A step counts as wrong if its score is below a threshold. Without ``threshold`` the labels are split by question
    into halves, and each is judged with the threshold that is best on the other one, so that no label is used for its
    own threshold. ``test`` logs ``test/macro_f1`` and its parts, how many first wrong steps and how many responses
    without any are found, and ``test/first_wrong_f1``, the harmonic mean of these two (ProcessBench's F1, there the
    mean of its parts). It writes ``visualprocessbench.md`` (or ``processbench.md``), ``.json`` and ``.parquet``.

    Args:
        reward_model: The MPRM's folder; none where ``reward`` is given.
        threshold: A threshold that was chosen on other labels, in [0, 1]; none chooses it here.
        reward_batch_size: Responses that the MPRM scores at the same time.
        dtype: Type of the MPRM's weights: float32, bfloat16, float16, or auto (16 bits on CUDA, else float32).
        attention: Attention kernel: auto, sdpa, eager, flash_attention_2, flash_attention_4.
        seed: Seed of the split and of the bootstrap.
        resamples: Resamples of the bootstrap.
        trust_remote_code: Run Python code that comes with the MPRM; read it first.
        reward: Another reward that scores steps, such as ``mstar.rewards.published.QwenMathPRM``.

    Raises:
        ConfigError: a number is out of its range, or not one of ``reward_model`` and ``reward`` is given.
    """

    def __init__(
        self,
        reward_model: str | None = None,
        threshold: float | None = None,
        reward_batch_size: int = 64,
        dtype: str = "auto",
        attention: str | None = "auto",
        seed: int = 0,
        resamples: int = 1000,
        trust_remote_code: bool = False,
        reward: Reward | None = None,
    ) -> None:
        super().__init__()
        if (reward_model is None) == (reward is None):
            raise ConfigError("model needs either reward_model, the folder of an MPRM, or reward, another reward.")
        require_share("model.threshold", threshold)
        require_least("model.", resamples=resamples)
        self.reward_model = reward_model
        self.threshold = threshold
        self.reward_batch_size = reward_batch_size
        self.dtype_name = dtype
        self.attention = attention
        self.seed = seed
        self.resamples = resamples
        self.trust_remote_code = trust_remote_code
        self.reward = reward
        self._results: list[StepResult] = []

    @property
    def compute_precision(self) -> Precision:
        """What the MPRM computes in."""
        return precision_of(self._trainer, self.dtype_name)

    def on_test_start(self) -> None:
        """Loads the reward."""
        self._source()
        self._results = []
        self.dtype_name = resolve_dtype(self.dtype_name, self.device)
        precision = self.compute_precision
        if self.reward is None:
            # Nothing else is there, so that nothing has to give way to it.
            batch, dtype = self.reward_batch_size, cast(Any, self.dtype_name)
            self.reward = MPRM(self.reward_model, batch, offload=False, dtype=dtype)
            self.reward.progress = False
        self.reward.check()
        self.reward.load(RewardHost(self.device, precision, self.attention, self.trust_remote_code))

    def test_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Scores the steps of a batch of responses."""
        assert self.reward is not None  # noqa: S101 - it is loaded when the test starts
        labelled = [self._source().steps[prompt.id] for prompt in batch.prompts]
        groups = [(p, [steps.steps]) for p, steps in zip(batch.prompts, labelled, strict=True)]
        with self.compute_precision.context(self.device):
            scored = self.reward.score_steps(groups)
        require_finite_scores(self.reward, batch.prompts, scored)
        for prompt, steps, [scores] in zip(batch.prompts, labelled, scored, strict=True):
            self._results.append(StepResult(prompt.id, steps.labels, scores))

    def on_test_epoch_end(self) -> None:
        """Scores the MPRM, writes the files, and logs ``test/macro_f1``."""
        found = {result.prompt_id: result for result in gather_lists(self._results)}
        self._results = []
        source = self._source()
        rows = {item.prompt.id: item for item in source.items if item.prompt.id in found}
        result = score_steps(
            [found[prompt_id] for prompt_id in rows],
            rows,
            threshold=self.threshold,
            averaged=source.averaged,
            seed=self.seed,
            resamples=self.resamples,
        )
        overall = result.scores[0]
        shares = ("macro_f1", "f1_right", "f1_wrong", "first_wrong_accuracy", "all_right_accuracy")
        logged = {name: getattr(overall, name) for name in shares} | {"first_wrong_f1": result.first_wrong_f1}
        for name, value in logged.items():
            if value is not None:
                self.log(f"test/{name}", value, sync_dist=True)
        if is_main():
            name = self.reward_model or f"{type(self.reward).__name__} {getattr(self.reward, 'model', '')}".rstrip()
            notes = [f"{'MPRM' if self.reward_model else 'Reward'}: {name}.", *benchmark_notes(source)]
            folder = Path(self.trainer.default_root_dir)
            path = write_step_scores(folder, source.name, result, notes)
            tqdm.write(f"{render_steps(result, notes, source.name)}\n{path}")

    def teardown(self, stage: str) -> None:
        """Releases the reward's memory."""
        if self.reward is not None:
            self.reward.release()

    def _source(self) -> StepBenchmark:
        source = find_benchmark(self.trainer)
        if not isinstance(source, StepBenchmark):
            raise ConfigError(
                f"StepBenchmarkModule judges rewards by human step labels, but data.test is a {type(source).__name__}; "
                "choose mstar.prompts.benchmarks.VisualProcessBench or ProcessBench."
            )
        return source
