"""Alignment without running the language model: tower and connector learn to write a picture as the model's own words.

For every thing on it four image tokens are to be the rows of the language model's input embedding that its colour, its
number in two digits and a comma have, in reading order: " red12," or " red 6,". Pictures alone supervise that, and the
language model does not run.

Shapes: B pictures, T image tokens, H hidden, C candidates (the words that can stand for a picture).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from mstar.interruption import stop_if_asked
from mstar.prompts.coloured import COLOURS, ColouredImage, ColouredThings
from mstar.small.model import IMAGE_TOKENS

if TYPE_CHECKING:
    from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

_DIGITS: Final = tuple("0123456789")


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """How long tower and connector learn.

    Attributes:
        batch_size: Pictures in a step; every step has new ones.
        lr: The highest learning rate, reached after a tenth of the steps; then it falls to 0.
        held_out: Pictures that are read in the end and were not learned from.
    """

    steps: int = 1100
    batch_size: int = 32
    lr: float = 2e-3
    held_out: int = 512


def words_of(shown: ColouredThings) -> list[str]:
    """What the image tokens of a picture are to be, one word each."""
    words = []
    for colour, number in shown.things:
        words += [f" {colour}", *(str(number) if number > 9 else f" {number}"), ","]
    return words


def align(
    model: Idefics3ForConditionalGeneration,
    processor: Idefics3Processor,
    image: type[ColouredImage],
    settings: AlignSettings,
    seed: int,
) -> float:
    """Teaches the tower and the connector of a model; the language model stays as it is.

    Args:
        model: The model; it is changed in place.
        image: What refers to a picture of the task: its split ``align`` is learned from, and ``validation`` read.
        seed: Which pictures come when.

    Returns:
        The share of held-out things whose colour and number are both read right.
    """
    parts: list[nn.Module] = [model.model.vision_model, model.model.connector]
    learned = [parameter for part in parts for parameter in part.parameters()]
    id_C, rows_CH = _candidates(model, processor)
    optimizer = torch.optim.AdamW(learned, lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.steps, pct_start=0.1, cycle_momentum=False
    )
    model.train()
    for step in range(settings.steps):
        stop_if_asked()
        first = step * settings.batch_size
        images = [image("align", seed, first + i) for i in range(settings.batch_size)]
        target_BT = _targets(images, processor, id_C)
        features_BTH = _features(model, processor, images)
        distance_BTC = _distances(features_BTH, rows_CH)
        # Near its own row, and nearer to it than to any other: the language model reads values, not directions.
        nearest = nn.functional.cross_entropy(-distance_BTC.flatten(0, 1), target_BT.flatten())
        loss = nearest + distance_BTC.gather(2, target_BT[..., None]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == settings.steps:
            sys.stdout.write(f"align: step {step + 1} of {settings.steps}, loss {loss.item():.3f}\n")
            sys.stdout.flush()
    model.eval()
    return read_share(model, processor, [image("validation", seed, i) for i in range(settings.held_out)])


def read_share(
    model: Idefics3ForConditionalGeneration, processor: Idefics3Processor, images: Sequence[ColouredImage]
) -> float:
    """The share of the things on some pictures whose image tokens are all nearest to the right words."""
    id_C, rows_CH = _candidates(model, processor)
    right: list[bool] = []
    with torch.no_grad():
        for start in range(0, len(images), 64):
            batch = images[start : start + 64]
            read_BT = _distances(_features(model, processor, batch), rows_CH).argmin(2)
            same_BT = read_BT == _targets(batch, processor, id_C)
            # Four words a thing.
            right += same_BT.reshape(-1, 4).all(1).tolist()
    return sum(right) / len(right)


def _candidates(model: Any, processor: Idefics3Processor) -> tuple[Tensor, Tensor]:
    """The ids (C) of the words that can stand for a picture, and their rows (C, H) of the input embedding."""
    id_C = torch.tensor(_ids([*(f" {colour}" for colour in COLOURS), *_DIGITS, " ", ","], processor))
    rows_CH: Tensor = model.get_input_embeddings().weight.detach()[id_C]
    return id_C, rows_CH


def _ids(words: Sequence[str], processor: Idefics3Processor) -> list[int]:
    tokenizer: Any = processor.tokenizer
    tokens = tokenizer.convert_tokens_to_ids([word.replace(" ", "Ġ") for word in words])
    return list(tokens)


def _targets(images: Sequence[ColouredImage], processor: Idefics3Processor, id_C: Tensor) -> Tensor:
    """Which candidate every image token is to be (B, T)."""
    id_BT = torch.tensor([_ids(words_of(image.shown), processor) for image in images])
    if id_BT.shape[1] != IMAGE_TOKENS:
        raise RuntimeError(f"a picture has {id_BT.shape[1]} words for {IMAGE_TOKENS} image tokens")
    return (id_BT[..., None] == id_C).int().argmax(2)


def _features(model: Any, processor: Any, images: Sequence[ColouredImage]) -> Tensor:
    """What the connector makes of pictures (B, T, H)."""
    pictures = processor.image_processor([[image.load()] for image in images], return_tensors="pt")
    features: Tensor = model.model.get_image_features(
        pixel_values=pictures["pixel_values"], pixel_attention_mask=pictures["pixel_attention_mask"]
    ).pooler_output
    return features


def _distances(features_BTH: Tensor, rows_CH: Tensor) -> Tensor:
    """Squared distances (B, T, C) to the candidates' rows."""
    norms_BTC = features_BTH.square().sum(-1, keepdim=True) + rows_CH.square().sum(-1)
    return norms_BTC - 2 * features_BTH @ rows_CH.T
