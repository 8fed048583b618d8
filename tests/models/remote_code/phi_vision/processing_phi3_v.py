"""A stand-in with the call signature of Phi-3.5-vision's own code: the processor, which takes one text at a time."""

import re

import numpy as np
import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

CROPS = 2


class Phi3VProcessor(ProcessorMixin):
    attributes = ["tokenizer"]  # noqa: RUF012
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer=None):
        super().__init__(tokenizer)

    def __call__(self, text, images=None, padding=False, truncation=None, max_length=None, return_tensors="pt"):
        assert isinstance(text, str)
        if images is None:
            return BatchFeature(dict(self.tokenizer(text, return_tensors=return_tensors)))
        pixels, sizes = [], []
        for number, image in enumerate(images):
            width = 16 if number else 8  # pictures of a prompt differ in size
            raw = torch.from_numpy(np.array(image.convert("RGB").resize((width, 16)))).float().permute(2, 0, 1) / 255
            padded = torch.zeros(CROPS + 1, 3, 16, 16)
            padded[0, :, :, :width] = raw
            pixels.append(padded)
            sizes.append(torch.tensor([16, width]))
        tags = [int(tag) for tag in re.findall(r"<\|image_(\d+)\|>", text)]
        assert sorted(set(tags)) == list(range(1, len(images) + 1)), f"image tags {tags} for {len(images)} images"
        chunks = [self.tokenizer(chunk)["input_ids"] for chunk in re.split(r"<\|image_\d+\|>", text)]
        ids = list(chunks[0])
        for tag, chunk in zip(tags, chunks[1:], strict=True):
            ids += [-tag] * (int(sizes[tag - 1].prod()) // 64) + chunk
        ids = torch.tensor([ids])
        return BatchFeature(
            {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "pixel_values": torch.stack(pixels),
                "image_sizes": torch.stack(sizes),
            }
        )
