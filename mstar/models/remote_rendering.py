"""Renderers of the processors that come as Python code with the weights: they take one prompt at a time.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mstar.rendering import Renderer
from mstar.types import Prompt

_SLICE: Final = "(<image>./</image>)"


class _TextTemplateRenderer(Renderer):
    """A chat template that takes the content of a turn as one text, with marks where pictures stand."""

    def picture_mark(self, number: int) -> str:
        """What stands for the picture of this number, from 1."""
        raise NotImplementedError

    def _apply_template(self, messages: list[dict[str, Any]], *, open_turn: bool) -> str:
        turns, pictures = [], 0
        for message in messages:
            text = ""
            for piece in message["content"]:
                if piece["type"] == "image":
                    pictures += 1
                    text += f"{self.picture_mark(pictures)}\n"
                else:
                    text += piece["text"]
            turns.append({"role": message["role"], "content": text})
        return str(self.tokenizer.apply_chat_template(turns, add_generation_prompt=open_turn, tokenize=False))

    def _encode(self, texts: list[str], prompts: Sequence[Prompt]) -> tuple[list[list[int]], dict[str, Tensor]]:
        rows = []
        for text, prompt in zip(texts, prompts, strict=True):
            if prompt.images:
                rows.append(dict(self.processor(text, [image.load() for image in prompt.images], return_tensors="pt")))
            else:
                rows.append({"input_ids": self.tokenizer(text)["input_ids"]})
        ids = [torch.as_tensor(row["input_ids"]).flatten().tolist() for row in rows]
        return ids, self._join([row if prompt.images else {} for row, prompt in zip(rows, prompts, strict=True)], ids)

    def _join(self, rows: list[Mapping[str, Any]], ids: list[list[int]]) -> dict[str, Tensor]:
        """The model's other arguments from those of the rows; a row without pictures has none."""
        raise NotImplementedError


class PhiVisionRenderer(_TextTemplateRenderer):
    """Renders for Phi-3.5-vision: a picture's place is a run of negative ids."""

    def _find_placeholders(self) -> tuple[str, ...]:
        return ("<|image_",)

    def picture_mark(self, number: int) -> str:
        """``<|image_1|>`` and so on."""
        return f"<|image_{number}|>"

    def _join(self, rows: list[Mapping[str, Any]], ids: list[list[int]]) -> dict[str, Tensor]:
        names = ("pixel_values", "image_sizes")
        found = {name: [torch.as_tensor(row[name]) for row in rows if row] for name in names}
        return {name: torch.cat(values) for name, values in found.items() if values}


class MiniCPMVRenderer(_TextTemplateRenderer):
    """Renders for MiniCPM-Llama3-V-2.5: a picture becomes some slices, each a run of placeholder tokens.

    The slices are padded to one width, and ``slice_token_type_ids`` (B, T) numbers each row's slices where they stand.
    """

    def _find_placeholders(self) -> tuple[str, ...]:
        return (_SLICE, *(token for token in ("<image>", "</image>") if token in self.tokenizer.get_vocab()))

    def picture_mark(self, number: int) -> str:
        """The same for every picture."""
        return _SLICE

    def _join(self, rows: list[Mapping[str, Any]], ids: list[list[int]]) -> dict[str, Tensor]:
        slices = [piece for row in rows if row for piece in _tensors(row["pixel_values"], 3)]
        if not slices:
            return {}
        # By width, the one dimension in which they differ.
        pixels = pad_sequence([piece.permute(2, 0, 1) for piece in slices], batch_first=True).permute(0, 2, 3, 1)
        sizes = torch.cat([size.reshape(-1, 2) for row in rows if row for size in _tensors(row["tgt_sizes"], 2)])
        width = max(map(len, ids))
        places_BT = torch.zeros((len(ids), width), dtype=torch.long)
        for place, row, own in zip(places_BT, rows, ids, strict=True):
            bounds = torch.cat(list(_tensors(row["image_bound"], 2))).tolist() if row else []
            offset = width - len(own)
            for number, (start, end) in enumerate(bounds, 1):
                place[offset + start : offset + end] = number
        return {"pixel_values": pixels, "tgt_sizes": sizes.long(), "slice_token_type_ids": places_BT}


def _tensors(value: Any, dimensions: int) -> Iterator[Tensor]:
    """The tensors of some dimensions in lists within lists, which the versions of the processor nest differently."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, dimensions)
        return
    tensor = torch.as_tensor(value)
    if tensor.dim() > dimensions:
        for item in tensor:
            yield from _tensors(item, dimensions)
    else:
        yield tensor
