"""A stand-in with the call signature of MiniCPM-Llama3-V-2.5's own code: the processor, for one text at a time."""

import re

import numpy as np
import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

PATCH = 8
QUERIES = 3


class MiniCPMVProcessor(ProcessorMixin):
    attributes = ["tokenizer"]  # noqa: RUF012
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer=None):
        super().__init__(tokenizer)

    def __call__(
        self, text, images=None, padding=False, truncation=None, max_length=None, do_pad=True, return_tensors="pt"
    ):
        assert isinstance(text, str)
        if images is not None:
            # The whole picture, and a wider slice of it: (3, patch, patches x patch) each.
            pieces = [self.cut(image, width) for image in images for width in (16, 24)]
            sizes = [torch.tensor([[2, width // PATCH]], dtype=torch.int32) for _ in images for width in (16, 24)]
        # The original has no case for None either.
        tags = re.findall(re.escape("(<image>./</image>)"), text)
        assert len(tags) == len(images)
        mark = "<image>" + "<unk>" * QUERIES + "</image>"
        ids = torch.tensor(self.tokenizer.encode(text.replace("(<image>./</image>)", mark * 2)), dtype=torch.int32)
        starts = torch.where(ids == self.tokenizer.convert_tokens_to_ids("<image>"))[0] + 1
        ends = torch.where(ids == self.tokenizer.convert_tokens_to_ids("</image>"))[0]
        return BatchFeature(
            {
                "input_ids": ids.unsqueeze(0),
                "pixel_values": [pieces],
                "image_sizes": [[image.size for image in images]],
                "image_bound": [torch.hstack([starts.unsqueeze(-1), ends.unsqueeze(-1)])],
                "tgt_sizes": [torch.vstack(sizes)],
            }
        )

    def cut(self, image, width):
        raw = torch.from_numpy(np.array(image.convert("RGB").resize((width, 16)))).float().permute(2, 0, 1) / 255
        patches = raw.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(1, 2)  # 3, patches, patch, patch
        return patches.permute(0, 2, 1, 3).flatten(2)
