"""When a run is past its best: the rule by which a share has fallen below the highest that it had."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# Prompts that are looked at together: a share of 90 % has a standard error of at most 1.3 points there.
_PROMPTS: Final = 500
# Standard errors, and the share itself, by which the best must be missed.
_ERRORS: Final = 5.0
_LEAST: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Iterations in a row, as many as hold enough prompts.

    Attributes:
        answered: Prompts with a right answer among them.
        chains: Responses that are right throughout.
    """

    first: int
    last: int
    temperature: float
    prompts: int
    answered: float
    generated: int
    correct: int
    chains: float
    chains_known: bool

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Block:
        """One iteration, from its report: of prompts that were voted on it is not known which responses are right."""
        known = report.get("labelled", report)
        share, correct = known["right_chain_accuracy"], known["funnel"]["correct"]
        return cls(
            first=report["iteration"],
            last=report["iteration"],
            temperature=report["temperature"],
            prompts=known["prompts"],
            answered=known["prompts"] * (1 - known["all_wrong_fraction"]),
            generated=known["funnel"]["generated"],
            correct=correct,
            chains=(share or 0.0) * correct,
            chains_known=share is not None or not correct,
        )

    def followed_by(self, other: Block) -> Block:
        """Both as one."""
        return Block(
            first=self.first,
            last=other.last,
            temperature=other.temperature,
            prompts=self.prompts + other.prompts,
            answered=self.answered + other.answered,
            generated=self.generated + other.generated,
            correct=self.correct + other.correct,
            chains=self.chains + other.chains,
            chains_known=self.chains_known and other.chains_known,
        )

    @property
    def full(self) -> bool:
        """Whether it has enough prompts to be compared."""
        return self.prompts >= _PROMPTS

    def accuracy(self) -> tuple[float, float]:
        """The share of right responses, and its variance."""
        return _share(self.correct, self.generated, self.prompts)

    def chain_accuracy(self) -> tuple[float, float]:
        """The share of right responses that are right throughout, and its variance."""
        return _share(self.chains, self.correct, self.answered)


@dataclass(frozen=True, slots=True)
class Peak:
    """The best that a run has reached, and whether it has fallen from it.

    Two shares are followed, of right responses and of those of them that are right throughout, over blocks of
    iterations with 500 prompts or more at one temperature. A full block has fallen where it is below the best block so
    far by at least 5 points and by at least 5 standard errors of the difference. The standard error takes a prompt's
    responses for copies of each other (variance p(1 - p) / prompts), which is the most that it can be. The best of many
    blocks is high by chance; of 200 blocks of a share that stays where it is, two differ by 5 standard errors in fewer
    than one of a hundred runs. Entropy and length are not followed: they have no best, and a policy that learns grows
    surer.

    Attributes:
        block: The iterations since the last full block, or that block itself.
        accuracy: The block with the highest share of right responses; None before any is full.
        chain_accuracy: The same for the right responses that are right throughout.
        fallen: What has fallen, in a sentence; None if nothing has.
    """

    block: Block
    accuracy: Block | None = None
    chain_accuracy: Block | None = None
    fallen: str | None = None

    @classmethod
    def follow(cls, before: Mapping[str, Any] | None, report: Mapping[str, Any]) -> Peak:
        """What is known after one more iteration.

        Args:
            before: ``as_dict`` of the iteration before; None if there is none.
        """
        block = Block.of(report)
        known = None if before is None else cls._from_dict(before)
        # At another temperature other shares are to be expected: a peak begins anew.
        if known is None or known.block.temperature != block.temperature:
            known = cls(block)
        elif not known.block.full:
            block = known.block.followed_by(block)
        if not block.full:
            return cls(block, known.accuracy, known.chain_accuracy, known.fallen)
        found = []
        best = known.accuracy or block
        if _fell(best.accuracy(), block.accuracy()):
            found.append(_say("of the responses are right", best, best.accuracy(), block.accuracy()))
        chains = known.chain_accuracy or (block if block.chains_known else None)
        if chains is not None and block.chains_known:
            if _fell(chains.chain_accuracy(), block.chain_accuracy()):
                said = "of the right responses are right throughout"
                found.append(_say(said, chains, chains.chain_accuracy(), block.chain_accuracy()))
            chains = max(chains, block, key=lambda b: b.chain_accuracy()[0])
        fallen = None
        if found:
            fallen = (
                f"the policy is past its best: {'; '.join(found)}. Export a checkpoint of that time, if there is one "
                "(mstar export), or start a new run from it, with a lower model.lr or a policy that is held "
                "(rollout.policy_gradient.kl_weight)"
            )
        return cls(block, max(best, block, key=lambda b: b.accuracy()[0]), chains, fallen)

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any]) -> Peak:
        accuracy, chains = (
            None if values[name] is None else Block(**values[name]) for name in ("accuracy", "chain_accuracy")
        )
        return cls(Block(**values["block"]), accuracy, chains, values["fallen"])


def _share(right: float, of: int, prompts: float) -> tuple[float, float]:
    if not of:
        return 0.0, math.inf
    share = right / of
    return share, share * (1 - share) / prompts


def _fell(best: tuple[float, float], now: tuple[float, float]) -> bool:
    fall, error = best[0] - now[0], math.sqrt(best[1] + now[1])
    return fall >= max(_LEAST, _ERRORS * error)


def _say(what: str, block: Block, best: tuple[float, float], now: tuple[float, float]) -> str:
    when = f"iteration {block.first}" if block.first == block.last else f"iterations {block.first} to {block.last}"
    return f"{now[0]:.1%} {what}, and {best[0]:.1%} were in {when}"
