"""Whether a trained model can be written as a Hugging Face folder: found out before the training, not after it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from mstar.errors import ConfigError
from mstar.rendering import Renderer


def mend_generation_config(model: nn.Module) -> None:
    """Makes the settings for sampling that come with a model ones that can be saved again.

    Some models have a temperature or top_p without do_sample. Transformers loads that, and refuses to save it.
    """
    untyped: Any = model
    settings: Any = getattr(untyped, "generation_config", None)
    if settings is None or settings.do_sample is True:
        return
    try:
        settings.validate(strict=True)
    except ValueError:
        # Where this was not the reason, check_export says what is.
        settings.do_sample = True


def check_export(model: nn.Module, renderer: Renderer) -> None:
    """Writes all of an export but the weights, to a folder that is deleted.

    Raises:
        ConfigError: a part cannot be written.
    """
    untyped: Any = model
    parts = {
        "configuration": untyped.config,
        "generation settings (generation_config.json)": getattr(untyped, "generation_config", None),
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
