"""Models of text that answer at a mark behind every step.

Shapes: B rows, T tokens, N the steps of all rows in order, H hidden.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from mstar.errors import ConfigError
from mstar.models.backbone import UNUSABLE, check_trust, explain_unusable, require_reachable
from mstar.models.response_scorer import pad_rows
from mstar.rewards.base import RewardHost
from mstar.rewards.published.base import Chain, PublishedReward, at_places

_log: Final = logging.getLogger(__name__)


class MarkedText(PublishedReward):
    """A model of text that answers at a mark behind every step. It does not see pictures, and says so once."""

    mark: ClassVar[str]
    _tokenizer: Any = None
    _warned = False

    @abstractmethod
    def _render(self, chain: Chain) -> tuple[str, list[str], str]:
        """What stands before the steps, the steps (each ends with the mark), and what stands behind them."""

    @abstractmethod
    def _model_class(self) -> Any:
        """Transformers' class of the model."""

    @abstractmethod
    def _head(self, model: nn.Module, hidden_NH: Tensor) -> Tensor:
        """The logits of "right" and "wrong" (N, 2) of hidden states at marks."""

    def _load(self, host: RewardHost, dtype: str) -> nn.Module:
        from transformers import AutoTokenizer

        check_trust(self.model, host.trust_remote_code, self.revision)
        origin: dict[str, Any] = {} if self.revision is None else {"revision": self.revision}
        try:
            require_reachable(self.model, self.revision)
            self._tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False, **origin)
            # Own code is not needed: these are models that Transformers has, or a head on one of them.
            model, info = self._model_class().from_pretrained(
                self.model, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True, **origin
            )
        except UNUSABLE as error:
            raise explain_unusable(self.model, error) from error
        if info["missing_keys"]:
            raise ConfigError(
                f"'{self.model}' is not a model for {type(self).__name__}: it lacks the weights "
                f"{sorted(info['missing_keys'])[:3]}."
            )
        self._mark_id = only_token(self, self._tokenizer, self.mark)
        made: nn.Module = model
        return made

    def _logits(self, model: nn.Module, chains: Sequence[Chain]) -> Tensor:
        if not self._warned and any(prompt.images for prompt, _ in chains):
            _log.warning("%s reads text alone: what it scores, it scores without the pictures", type(self).__name__)
            self._warned = True
        rows = [find_marks(self, self._tokenizer, self._mark_id, *self._render(chain)) for chain in chains]
        self._lengths = [len(ids) for ids, _ in rows]
        ids_BT, mask_BT = pad_rows([ids for ids, _ in rows])
        untyped: Any = model
        hidden_BTH = untyped.model(
            input_ids=ids_BT.to(self._device), attention_mask=mask_BT.to(self._device), use_cache=False
        ).last_hidden_state
        return self._head(model, at_places(hidden_BTH, [places for _, places in rows]))


def only_token(reward: PublishedReward, tokenizer: Any, text: str) -> int:
    """The token that a text is.

    Raises:
        ConfigError: it is several: the tokenizer is another model's.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        name = type(reward).__name__
        raise ConfigError(f"'{reward.model}' is not a model for {name}: '{text}' is {len(ids)} tokens there, not 1.")
    return int(ids[0])


def find_marks(
    reward: PublishedReward, tokenizer: Any, mark_id: int, head: str, steps: Sequence[str], tail: str
) -> tuple[list[int], list[int]]:
    """The tokens of a text with marks, and where among them the marks are.

    By where they stand in the text: a step may well hold the mark, too.

    Args:
        head: What stands before the steps.

    Raises:
        ConfigError: a mark is no token of its own there.
    """
    encoded = tokenizer(head + "".join(steps) + tail, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    ending = {end: place for place, (start, end) in enumerate(encoded["offset_mapping"]) if end > start}
    places = [ending.get(end, -1) for end in accumulate(map(len, steps), initial=len(head))][1:]
    if any(place < 0 or ids[place] != mark_id for place in places):
        raise ConfigError(
            f"'{reward.model}' is not a model for {type(reward).__name__}: its tokenizer does not keep its mark apart "
            "from the text around it."
        )
    return ids, places
