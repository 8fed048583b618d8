"""Whether a prompt can be shown to the model: found out when it is about to be used.

Decoding every picture of a large data set when it is loaded takes too long, and how many tokens a picture has is known
to the model's processor alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mstar.errors import ConfigError, DataError, require_least, require_share
from mstar.prompts.images import LoadedImage
from mstar.prompts.quarantine import BadRow, Reason, RowError
from mstar.types import Prompt

if TYPE_CHECKING:
    from mstar.rendering import Renderer

_THREADS: Final = 8
_CHUNK: Final = 32
# What Qwen2-VL's and its successors' processors refuse.
_LONGEST_SIDE: Final = 200


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """Tells the prompts that can be used from the others.

    A prompt that leaves no position of the model to a response cannot be used.

    Attributes:
        reader: How the model reads them; None looks at the pictures alone.
        max_prompt_tokens: Longest prompt, the tokens of its pictures included; None for no limit. A prompt that may be
            longer, by its text's bytes and the sizes of its pictures, is encoded once more to count it.
        max_example_tokens: Longest prompt and response together; None for no limit.
        max_bad_share: How many may be put aside; see ``PutAside.check``.

    Raises:
        ConfigError: a limit is out of its range, or there is no ``reader`` to count tokens.
    """

    reader: Renderer | None = None
    max_prompt_tokens: int | None = None
    max_example_tokens: int | None = None
    max_bad_share: float | None = None

    def __post_init__(self) -> None:
        require_share("max_bad_share", self.max_bad_share)
        for name in ("max_prompt_tokens", "max_example_tokens"):
            limit = getattr(self, name)
            require_least("", **{name: limit})
            if limit is not None and self.reader is None:
                raise ConfigError(f"{name} is set, but there is no model's processor to count tokens with.")

    def open(self, prompt: Prompt, response: str | None = None) -> Prompt:
        """The prompt with its pictures decoded.

        Raises:
            RowError: it cannot be used, or not with the response that it is trained with.
        """
        opened, faults = self.open_all(prompt, [] if response is None else [response])
        if (fault := next(iter(faults), None)) is not None:
            raise fault
        return opened

    def open_all(self, prompt: Prompt, responses: Sequence[str]) -> tuple[Prompt, list[RowError | None]]:
        """The prompt with its pictures decoded, and for every response why it cannot be trained on, or None.

        Raises:
            RowError: the prompt cannot be used.
        """
        loaded = _load(prompt)
        if self.reader is None or self.max_example_tokens is None:
            self._count(loaded)
            return loaded, [None] * len(responses)
        lengths = [self.reader.count_response_tokens(response) for response in responses]
        count = self._count(loaded, self.max_example_tokens - max(lengths, default=0))
        return loaded, [_compare(count + length, self.max_example_tokens, "prompt and response") for length in lengths]

    def sift(self, prompts: Sequence[Prompt], rows: Sequence[int] = ()) -> tuple[list[Prompt], list[BadRow]]:
        """The prompts that can be used, with their pictures not decoded, and what is wrong with the others."""
        good: list[Prompt] = []
        bad: list[BadRow] = []
        numbers: Sequence[int | None] = rows or [None] * len(prompts)
        numbered = list(zip(prompts, numbers, strict=True))
        # Pillow decodes without holding Python's lock; a chunk at a time, so that few pictures are in memory.
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(numbered), _CHUNK):
                chunk = numbered[start : start + _CHUNK]
                for prompt, row, loaded in [(*item, pool.submit(_load, item[0])) for item in chunk]:
                    try:
                        self._count(loaded.result())
                    except RowError as error:
                        bad.append(describe(prompt, error, row))
                    else:
                        good.append(prompt)
        return good, bad

    def _count(self, prompt: Prompt, beside_responses: int | None = None) -> int:
        """The tokens of a prompt; where it surely fits, as many as it may have at most.

        Args:
            beside_responses: The tokens that all its responses leave to it; None for no limit.

        Raises:
            RowError: it cannot be used.
        """
        if self.reader is None:
            return 0
        positions = self.reader.positions
        limits = (self.max_prompt_tokens, beside_responses, None if positions is None else positions - 1)
        limit = min((limit for limit in limits if limit is not None), default=None)
        try:
            bound = self.reader.bound_tokens(prompt)
            if limit is None or (bound is not None and bound <= limit):
                return bound or 0  # Counting it takes as long as preparing it does.
            count = self.reader.count_tokens(prompt)
        except DataError as error:
            raise RowError(Reason.BAD_TEXT, str(error)) from error
        if (fault := _compare(count, self.max_prompt_tokens, "prompt")) is not None:
            raise fault
        if positions is not None and count >= positions:
            detail = f"prompt: {count} tokens, and of the model's {positions} positions none is left to a response"
            raise RowError(Reason.TOO_LONG, detail)
        return count


def describe(prompt: Prompt, error: RowError, row: int | None = None) -> BadRow:
    """The quarantine's row of a prompt; ``row`` is its number in its source, where that is known."""
    images = [image.uri for image in prompt.images]
    return BadRow(row, error.reason, error.detail, {"id": prompt.id, "question": prompt.question, "images": images})


def _load(prompt: Prompt) -> Prompt:
    try:
        images = tuple(LoadedImage(image.uri, image.load()) for image in prompt.images)
    except DataError as error:
        raise RowError(Reason.BROKEN_IMAGE, str(error)) from error
    for image in images:
        if max(image.image.size) > _LONGEST_SIDE * min(image.image.size):
            size = "x".join(map(str, image.image.size))
            raise RowError(Reason.BROKEN_IMAGE, f"the image '{image.uri}' is a strip of {size} pixels")
    return replace(prompt, images=images)


def _compare(count: int, limit: int | None, what: str) -> RowError | None:
    if limit is None or count <= limit:
        return None
    return RowError(Reason.TOO_LONG, f"{what}: {count} tokens, of which {limit} are allowed")
