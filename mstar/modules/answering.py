"""A module that writes responses: how well it answers, in validate and test, and what it answers, in predict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from mstar.datamodules.quarantined import PromptBatch
from mstar.distributed import gather_lists, is_main
from mstar.errors import ConfigError
from mstar.evaluation.gradeable import check_prompts
from mstar.generation import Engine, Request, TransformersEngine, draw_responses
from mstar.generation.base import GREEDY, explain_cut_off
from mstar.generation.drift import require_handed_over
from mstar.grading import AnswerGrader, Grader, grade_all
from mstar.metrics import chain_accuracy, mean_accuracy
from mstar.models.backbone import find_model_type
from mstar.models.fingerprint import fingerprint_model
from mstar.modules.backbone_module import BackboneModule
from mstar.prompts import PromptSource
from mstar.types import Prompt, ScoredResponse

_log: Final = logging.getLogger(__name__)


def greedy_responses(engine: Engine, prompts: Sequence[Prompt], grader: Grader) -> list[ScoredResponse]:
    """The graded greedy response of every prompt."""
    responses = draw_responses(engine, [Request(prompt, (GREEDY,)) for prompt in prompts])
    return [scored for [scored] in grade_all(prompts, responses, grader)]


class AnsweringModule(BackboneModule):
    """A backbone that answers prompts with an engine, and whose answers are graded."""

    def answer_with(self, engine: Engine | None, max_new_tokens: int | None, grader: Grader | None) -> None:
        """Takes ``PolicyModule``'s settings of answering; the constructor of what inherits from this calls it."""
        self._max_new_tokens = max_new_tokens
        if engine is None and max_new_tokens is not None:
            self.engine: Engine = TransformersEngine(max_new_tokens, progress=False)
        else:
            self.engine = engine or TransformersEngine(progress=False)
        self.engine_key = "model.engine"
        self._engine_is_named = engine is not None
        self._check_length()
        self.grader = grader or AnswerGrader()
        # What a test does with prompts in the place of greedy accuracy; a benchmark has its own.
        self.on_test_prompts: Callable[[list[Prompt]], None] | None = None
        self._scored: list[ScoredResponse] = []

    @property
    def policy(self) -> nn.Module:
        """The model that answers, loaded."""
        raise NotImplementedError

    def use_engine(self, engine: Engine, key: str) -> None:
        """Draws the responses of validate, test and predict with another's engine, by its name in the configuration.

        Raises:
            ConfigError: the module has one of its own, or that one does not say how long a response may be.
        """
        if self._engine_is_named:
            raise ConfigError(f"model.engine and {key} are both set, but there is one engine: leave model.engine out.")
        self.engine, self.engine_key = engine, key
        self._check_length()

    def _check_length(self) -> None:
        if not hasattr(self.engine, "max_new_tokens"):
            raise ConfigError(
                f"{self.engine_key} '{type(self.engine).__name__}' has no max_new_tokens: have its constructor set it."
            )
        if self._max_new_tokens not in (None, self.engine.max_new_tokens):
            raise ConfigError(
                f"model.max_new_tokens is {self._max_new_tokens}, but {self.engine_key}.max_new_tokens is "
                f"{self.engine.max_new_tokens}: leave the first out."
            )

    @property
    def by_address(self) -> bool:
        """Whether another model, by its address, answers in the policy's place, so that the policy is not loaded."""
        fitting = self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return self.engine.own_model is not None and not fitting

    def writer(self) -> dict[str, str]:
        """What writes the responses: ``model``, its folder, id, checkpoint or name, and ``weights``, their hash.

        The weights of a model by address are unknown; its name stands for them. Collective for a sharded policy.
        """
        if self.by_address:
            return {"model": str(self.engine.own_model), "weights": f"by address: {self.engine.own_model}"}
        made = self._trainer.ckpt_path if self._trainer is not None else None
        return {"model": str(made or self.model_name), "weights": fingerprint_model(self.policy)}

    def setup(self, stage: str) -> None:
        """Has DDP expect weights that a batch does not use, and tells the engine what it will be used for."""
        super().setup(stage)
        if self.trainer.progress_bar_callback is None:
            self.engine.progress = False
        if stage == "fit" and self.engine.own_model is not None:
            raise ConfigError(
                f"model.engine is '{self.engine.own_model}' by its address, so that validate would measure it, not "
                "the policy that is trained: leave model.engine out of a fit."
            )
        if self.engine.group_size > 1 and (stage != "fit" or self._engine_is_named):
            raise ConfigError(
                f"{self.engine_key}.tensor_parallel_size is {self.engine.group_size}, but validate, test and predict "
                "give each process prompts of its own, which the processes of one engine cannot answer together: set "
                "it to 1, or choose VllmServerEngine with a vllm serve --tensor-parallel-size."
            )
        if self.by_address:
            self.engine.expect(self.engine.own_model or "")
        elif stage != "fit" or self._engine_is_named:
            family = find_model_type(self.model_name, trust_remote_code=self.trust_remote_code, revision=self.revision)
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            self.engine.expect(family, getattr(data, "max_prompt_tokens", None))

    def _start_engine(self) -> None:
        self.engine.work_in(Path(self.trainer.default_root_dir))
        if self.by_address:
            return
        self.engine.start(self.policy, self.renderer)
        self.engine.update_weights(self.policy)
        require_handed_over(self.engine, self.policy)

    def _greedy(self, prompts: list[Prompt]) -> list[ScoredResponse]:
        with self.compute_precision.context(self.device):
            return greedy_responses(self.engine, prompts, self.grader)

    def on_test_start(self) -> None:
        """Looks at the gold answers; a benchmark, which is here before, does so itself.

        Raises:
            DataError: most of them cannot be graded, or a prompt has none.
        """
        source = getattr(self.trainer.datamodule, "test", None)  # type: ignore[attr-defined]
        if self.on_test_prompts is None and isinstance(source, PromptSource):
            check_prompts(source, "data.test", self.grader)

    on_validation_epoch_start = on_test_epoch_start = on_predict_epoch_start = _start_engine

    def on_predict_epoch_end(self) -> None:
        """Frees what the engine holds."""
        self.engine.rest()

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answers and grades a batch of prompts."""
        self._scored += self._greedy(batch.prompts)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/accuracy`` and, where the data knows it, ``val/chain_accuracy``."""
        self._log_scores("val")

    def test_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answers and grades a batch of prompts."""
        if self.on_test_prompts is not None:
            self.on_test_prompts(batch.prompts)
        else:
            self._scored += self._greedy(batch.prompts)

    def on_test_epoch_end(self) -> None:
        """Logs ``test/accuracy`` and, where the data knows it, ``test/chain_accuracy``."""
        self._log_scores("test")

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> list[ScoredResponse]:
        """The graded greedy response of every prompt."""
        return self._greedy(batch.prompts)

    def _log_scores(self, stage: str) -> None:
        self.engine.rest()
        # Several processes: the sampler gives some prompts twice, so that all have equally many; they count once.
        distinct = {scored.response.prompt_id: scored for scored in gather_lists(self._scored)}
        self._scored = []
        groups = [[scored] for scored in distinct.values()]
        if not groups:
            return
        cut_off = sum(not scored.response.finished for scored in distinct.values())
        option = f"{self.engine_key}.max_new_tokens"
        explained = explain_cut_off(cut_off, len(groups), self.engine.max_new_tokens, option)
        if explained is not None and is_main() and not self.trainer.sanity_checking:
            _log.warning("%s", explained)
        self.log(f"{stage}/accuracy", mean_accuracy(groups), prog_bar=True, sync_dist=True)
        chains = chain_accuracy(groups)
        if chains is not None:
            self.log(f"{stage}/chain_accuracy", chains, prog_bar=True, sync_dist=True)

    def teardown(self, stage: str) -> None:
        """Releases what the engine holds."""
        self.engine.close()
