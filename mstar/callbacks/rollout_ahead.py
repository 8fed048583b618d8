"""Generation overlapped with training: the next iteration's first shards are drawn while this one trains."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from mstar.callbacks.rollout_progress import RolloutProgress
from mstar.callbacks.rollout_settings import RolloutSettings
from mstar.callbacks.rollout_stages import RolloutStages
from mstar.distributed import gather_lists, is_main, takes_part, wait_for_all
from mstar.iteration.ahead import Ahead, DrawingAhead, claim_ahead, find_ahead
from mstar.iteration.plan import IterationPrompts
from mstar.storage import RunDirectory, read_json

_log = logging.getLogger(__name__)


class Overlap:
    """Draws ahead, by the thread of each process for its own shards.

    Each iteration's weights stay in the engine's folder until what they draw ahead is drawn. So a run that was killed,
    in its training or after it, has the rest drawn by the same weights, and ends as one that was left alone.
    """

    def __init__(self, settings: RolloutSettings, progress: RolloutProgress) -> None:
        self._settings = settings
        self._progress = progress
        self._drawing: DrawingAhead | None = None
        self._waited_for = True
        self._taken_up: Ahead | None = None

    def announce(self) -> None:
        """Says what of the responses will be stale."""
        settings = self._settings
        if settings.overlap_shards and is_main():
            correction = (
                f"{settings.method} compares the policy with the one that drew them, by the log-probabilities that "
                "they were drawn with"
                if settings.objective is not None
                else f"{settings.method} imitates what is kept of them, without a ratio that would correct for that"
            )
            _log.info(
                "from the second iteration on, the first %d shards of %d prompts are drawn while the iteration before "
                "trains, by the weights that it drew with: they are stale by one iteration; %s.",
                *(settings.overlap_shards, settings.shard_size, correction),
            )

    def begin(self, stages: RolloutStages, iteration: int) -> None:
        """Begins to draw for the next iteration; the engine has the weights that this one drew with. Collective.

        Nothing is drawn before the last iteration's training.
        """
        self._progress.ahead = None
        settings, run = self._settings, stages.run
        if not settings.overlap_shards or iteration == stages.trainer.max_epochs:
            return
        prompts = stages.find_prompts(iteration + 1)
        kept = settings.engine.keep_weights()
        assert kept is not None  # noqa: S101 - the settings refuse other engines
        ahead = Ahead(
            iteration + 1,
            tuple(range(min(settings.overlap_shards, prompts.num_shards))),
            read_json(run.plan(iteration))["policy"],
            prompts.plan.temperature,
            str(kept),
        )
        if is_main():
            facts = stages.generation_facts(prompts.plan, ahead.policy)
            claim_ahead(run, ahead, facts | {"prompts": [prompts.fingerprint(number) for number in ahead.shards]})
        self._start(ahead, prompts, stages, self._missing(ahead, prompts, run))

    def take_up(self, stages: RolloutStages) -> None:
        """Goes on with what another process began, by the same weights, unless this one does already. Collective.

        If the weights are gone, less is drawn ahead than there was to be.
        """
        ahead = self._progress.ahead
        if ahead is None or self._taken_up == ahead:
            return
        prompts, policy = stages.find_prompts(ahead.iteration), stages.policy
        # A sweep may have chosen another one since.
        prompts = replace(prompts, plan=replace(prompts.plan, temperature=ahead.temperature))
        missing = self._missing(ahead, prompts, stages.run)
        if missing and not self._settings.engine.hand_over_again(policy.policy, policy.renderer, Path(ahead.weights)):
            if is_main():
                _log.warning(
                    "the weights of iteration %d are not in '%s' any more: %d shards of iteration %d that they were to "
                    "draw are drawn by its own weights.",
                    *(ahead.iteration - 1, ahead.weights, len(missing), ahead.iteration),
                )
            ahead, missing = replace(ahead, shards=tuple(n for n in ahead.shards if n not in missing)), []
        self._start(ahead, prompts, stages, missing)

    def _start(self, ahead: Ahead, prompts: IterationPrompts, stages: RolloutStages, missing: list[int]) -> None:
        engine = self._settings.engine
        own = [number for number in missing if takes_part(number, engine.group_size)]
        self._progress.ahead = self._taken_up = ahead
        self._waited_for = False
        self._drawing = DrawingAhead(prompts, own, engine, stages.data.prompt_check(), stages.run) if own else None

    def _missing(self, ahead: Ahead, prompts: IterationPrompts, run: RunDirectory) -> list[int]:
        """The shards that are neither drawn nor taken in by their iteration; all processes find the same."""
        if not is_main():
            return gather_lists([])
        there, plan = set(find_ahead(run, prompts, ahead)), run.plan(ahead.iteration)
        if plan.exists() and read_json(plan).get("ahead") == ahead.facts():
            there |= {number for number in ahead.shards if run.responses(ahead.iteration, number).exists()}
        return gather_lists([number for number in ahead.shards if number not in there])

    def finish(self, stages: RolloutStages, iteration: int) -> Ahead | None:
        """Waits until all is drawn; from then on the engine is free to get other weights. Collective.

        Returns:
            What was drawn ahead for this iteration; None if nothing was.

        Raises:
            Exception: it could not be drawn.
        """
        if self._progress.ahead is None or self._progress.ahead.iteration != iteration:
            return None
        self.take_up(stages)
        drawing, self._drawing = self._drawing, None
        if drawing is not None:
            try:
                drawing.finish()
            except BaseException:
                drawing.give_up()
                self._taken_up = None
                raise
        if not self._waited_for:
            wait_for_all()
            self._waited_for = True
            self._settings.engine.keep_weights(False)
        ahead = self._progress.ahead
        return ahead if ahead.shards else None

    def give_up(self) -> None:
        """Ends the thread, if there is one; what it has drawn is there for the next attempt."""
        drawing, self._drawing, self._taken_up = self._drawing, None, None
        if drawing is not None:
            drawing.give_up()

    def clear(self, run: RunDirectory, iteration: int) -> None:
        """Deletes what an iteration has taken in."""
        if is_main():
            shutil.rmtree(run.ahead(iteration), ignore_errors=True)
