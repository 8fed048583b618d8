"""A model as an ordinary Hugging Face folder, which Transformers and vLLM load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from mstar.errors import ConfigError
from mstar.models.finite import find_nonfinite
from mstar.models.lora import cast_state, has_lora, merged_state, plain_shell
from mstar.rendering import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

# What an image processor's settings call the library that it computes with.
SAVED_BACKEND: Final = "image_backend"


def save_model(
    model: PreTrainedModel,
    renderer: Renderer,
    folder: Path,
    *,
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    base: nn.Module | None = None,
) -> None:
    """Writes an ordinary Hugging Face folder: safetensors weights, config and processor.

    Adapters are folded into the weights; the model itself stays as it is.

    Args:
        state: The model's state, if not that which it holds (whole tensors of a sharded model).
        base: Of a model in 4 bits, what its weights were before: the folder has the adapters on those, so that what
            loads it in 4 bits again has the adapters' part too (``merged_state``).

    Raises:
        ConfigError: a weight is beyond the range of the type, or ``base`` is another model.
    """
    config: Any = model.config
    text, tied = config.get_text_config(), getattr(config, "tie_word_embeddings", None)
    if tied is not None and getattr(text, "tie_word_embeddings", tied) != tied:
        # Transformers goes by the whole model's, and leaves a tied head out of the files; vLLM goes by the language
        # model's, and would compute with a head that it never read.
        text.tie_word_embeddings = tied
    changed = has_lora(model) or getattr(model, "is_quantized", False) or dtype not in (None, model.dtype)
    if state is None and not changed:
        model.save_pretrained(folder)
    else:
        # A GPU that trains has no room for the weights once more.
        merged = cast_state(merged_state(model, state, base, dtype, device="cpu"), dtype)
        beyond = find_nonfinite(merged.items())
        if beyond is not None:
            raise ConfigError(
                f"the weights are not all finite numbers in the type of the export ('{beyond}' is the first): choose "
                "float32 or bfloat16, which have the larger range."
            )
        plain_shell(model, dtype).save_pretrained(folder, state_dict=merged)
    _save_processor(renderer.processor, folder)
    # Safetensors makes files that their owner alone can read.
    for weights in folder.glob("*.safetensors"):
        weights.chmod(folder.stat().st_mode & 0o666)


def _save_processor(processor: ProcessorMixin, folder: Path) -> None:
    images: Any = getattr(processor, "image_processor", None)
    # The class's name, which Transformers saves, is without it.
    if hasattr(images, "backend"):
        setattr(images, SAVED_BACKEND, images.backend)
    processor.save_pretrained(folder)


def mend_generation_config(model: Any) -> None:
    """Makes the settings for sampling that come with a model ones that can be saved again.

    Some models have a temperature or top_p without do_sample. Transformers loads that, and refuses to save it.
    """
    settings: Any = getattr(model, "generation_config", None)
    if settings is None or settings.do_sample is True:
        return
    try:
        settings.validate(strict=True)
    except ValueError:
        # Where this was not the reason, check_export says what is.
        settings.do_sample = True


def mend_tied_names(model: nn.Module) -> None:
    """Says which weights of a model have two names, where code for Transformers 4 has a list of names for it.

    Transformers 5 wants each with the name that is saved, and ends with an error at a list, after the training.
    """
    untyped: Any = type(model)
    if not isinstance(getattr(untyped, "_tied_weights_keys", None), list):
        return
    saved: dict[nn.Parameter, str] = {}
    names = {name: saved.setdefault(value, name) for name, value in model.named_parameters(remove_duplicate=False)}
    untyped._tied_weights_keys = {name: first for name, first in names.items() if name != first}


def check_export(model: Any, renderer: Renderer) -> None:
    """Writes all of an export but the weights, to a folder that is deleted.

    Raises:
        ConfigError: a part cannot be written.
    """
    parts = {
        "configuration": model.config,
        "generation settings (generation_config.json)": getattr(model, "generation_config", None),
        "processor": renderer.processor,
    }
    with TemporaryDirectory() as folder:
        for name, part in parts.items():
            if part is None:
                continue
            try:
                part.save_pretrained(Path(folder))
            # What Transformers raises for parts it cannot write.
            except (AttributeError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise ConfigError(
                    f"the {name} of {type(model).__name__} cannot be saved, so that the fit could not export its model "
                    f"({reason}): mend it in the model's folder."
                ) from error
