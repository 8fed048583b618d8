"""Loading a vision-language model and its processor."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx2
import torch
from huggingface_hub import file_exists, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from safetensors import SafetensorError, safe_open
from torch import nn

from mstar.errors import ConfigError
from mstar.file_faults import find_folder_fault
from mstar.models.attention import choose_attention
from mstar.models.compatibility import check_configuration, check_model, check_weights
from mstar.models.export import SAVED_BACKEND, mend_generation_config, mend_tied_names
from mstar.models.families import NATIVE, REMOTE, Family, family_of
from mstar.models.lora import note_dtype
from mstar.models.precision import DTYPES
from mstar.models.quantization import quantization_settings
from mstar.models.tiny import build_tiny_model, build_tiny_processor
from mstar.rendering import Renderer
from mstar.storage import read_json, suggest_export

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

EMBEDDED_MODEL: Final = "mstar/tiny-idefics3"

# Their names in the files of safetensors.
_STORED: Final = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# What transformers raises for names and folders that it cannot use; ImportError where a processor needs a package.
UNUSABLE: Final = (OSError, ValueError, ImportError, SafetensorError)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def explain_unusable(name: str, error: Exception) -> ConfigError:
    """What a user is told where one of ``UNUSABLE`` is raised for a model or its processor."""
    if Path(name).is_dir() and (fault := find_folder_fault(Path(name))) is not None:
        # Transformers calls a file missing that it may not read, and a pointer to a file damaged.
        return ConfigError(f"model_name '{name}' cannot be loaded: {fault}.")
    reason = next((line.strip().rstrip(".:") for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "trust_remote_code" in str(error):
        return ConfigError(
            f"model_name '{name}' comes with Python code of its own, which runs only if you allow it: read it, then "
            "set trust_remote_code to true and revision to the commit that you read."
        )
    if "gated repo" in str(error):
        return ConfigError(
            f"model_name '{name}' is given only to those who accept its terms: accept them on its page of the hub, and "
            "log in with 'hf auth login', or set HF_TOKEN."
        )
    if isinstance(error, ImportError):
        wanted = " (pip install 'mstar[processors]')" if re.search("torchvision|num2words", str(error), re.I) else ""
        return ConfigError(f"model_name '{name}' needs a package that is not installed{wanted}: {reason}.")
    if Path(name, "adapter_config.json").is_file():
        return ConfigError(
            f"model_name '{name}' is a folder of adapters alone: merge them into their base model (with mstar export "
            "without --adapter, or with peft), and give the merged folder."
        )
    where = "is a folder without a usable model" if Path(name).exists() else "is neither a folder nor a reachable model"
    meant = suggest_export(Path(name), "policy")
    return ConfigError(f"model_name '{name}' {where} ({reason}): give a Hugging Face folder or id.{meant}")


def check_trust(name: str, trust_remote_code: bool, revision: str | None) -> None:
    """Makes sure that code that comes with a model is pinned before it runs (else ``ConfigError``).

    A branch or tag can be moved to other code after it was read; a commit and a local folder cannot.
    """
    pinned = Path(name).is_dir() or (revision is not None and _COMMIT.fullmatch(revision))
    if trust_remote_code and not pinned and name != EMBEDDED_MODEL:
        raise ConfigError(
            f"trust_remote_code runs the Python code of '{name}', but revision is {revision!r}, which does not pin it: "
            "set revision to the 40 hexadecimal digits of the commit that you read."
        )


def _origin(trust_remote_code: bool, revision: str | None) -> dict[str, Any]:
    # Never left open: Transformers would ask at the terminal whether the code may run.
    return {"trust_remote_code": trust_remote_code} | ({} if revision is None else {"revision": revision})


def read_configuration(name: str, trust_remote_code: bool, revision: str | None) -> PreTrainedConfig:
    """The configuration of a folder or a model id; what is raised where there is none is in ``UNUSABLE``."""
    file = Path(name, "config.json")
    written = file.stat().st_mtime_ns if file.is_file() else None
    return deepcopy(_read_once(name, trust_remote_code, revision, written))


@cache
def _read_once(name: str, trust_remote_code: bool, revision: str | None, written: int | None) -> PreTrainedConfig:
    from transformers import AutoConfig

    require_reachable(name, revision)
    config: PreTrainedConfig = AutoConfig.from_pretrained(name, **_origin(trust_remote_code, revision))
    return config


def require_reachable(name: str, revision: str | None) -> None:
    """Asks the hub once for a model that is neither a folder nor in the cache.

    Transformers would ask for one file after another, each for half a minute, where there is no network.

    Raises:
        OSError: there is none, or the hub is not to be asked.
    """
    if Path(name).is_dir():
        return
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
            file_exists(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise FileNotFoundError("there is no such folder, and a hub has no such names") from error
    except (httpx2.ConnectError, OfflineModeIsEnabled) as error:
        raise FileNotFoundError("the hub cannot be reached, and its cache does not have it") from error
    except (httpx2.HTTPError, HfHubHTTPError):
        return  # it may pass; if not, Transformers says what it is


def _family_by(name: str, config: PreTrainedConfig) -> Family:
    """The family by the configuration alone, or the sentence that says why it is none."""
    check_configuration(name, config)
    return REMOTE.get(config.model_type, NATIVE)


def find_model_type(name: str, *, trust_remote_code: bool = False, revision: str | None = None) -> str:
    """The family that a model belongs to, by the ``model_type`` of its configuration; its weights are not read.

    Raises:
        ConfigError: nothing usable is at ``name``, or code would run that is not pinned.
    """
    if name == EMBEDDED_MODEL:
        return "idefics3"
    check_trust(name, trust_remote_code, revision)
    try:
        return str(read_configuration(name, trust_remote_code, revision).model_type)
    except UNUSABLE as error:
        raise explain_unusable(name, error) from error


def load_model(
    name: str,
    *,
    dtype: str = "float32",
    compute: torch.dtype | None = None,
    attention: str | None = "auto",
    seed: int = 0,
    trust_remote_code: bool = False,
    revision: str | None = None,
    quantization: Literal["none", "nf4"] = "none",
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """Loads a vision-language model.

    Args:
        name: A Hugging Face folder or model id, or ``mstar/tiny-idefics3`` for the embedded model with new weights.
        dtype: Of the weights: ``float32``, ``bfloat16`` or ``float16``.
        compute: Type that the model will compute in, under autocast; None for that of the weights.
        attention: ``auto`` (or None), or one of Transformers' implementations; see ``choose_attention``.
        revision: Commit, tag or branch of a model id; a commit if its code is to run.
        quantization: nf4 loads the language model's linear layers in 4 bits.
        device: Where its weights go, one after another: host memory never holds them all. On the CPU, weights whose
            files have them in ``dtype`` are maps of these files, which take no memory of the process until they are
            written to.

    Raises:
        ConfigError: nothing usable is at ``name``, its files lack weights, a setting is unknown, or code would run
            that is not pinned.
        MissingExtraError: a setting needs a package that is not installed.
    """
    import transformers

    if dtype not in DTYPES:
        raise ConfigError(f"dtype '{dtype}' is unknown: choose one of {', '.join(DTYPES)}.")
    weights = DTYPES[dtype]
    check_trust(name, trust_remote_code, revision)
    choose_attention(attention, compute or weights)
    if name == EMBEDDED_MODEL:
        if quantization != "none":
            raise ConfigError(f"'{EMBEDDED_MODEL}' cannot be quantised: set model.lora.quantization to none.")
        tiny: Any = build_tiny_model(build_tiny_processor(), seed)
        model: PreTrainedModel = tiny.to(device, weights)
    else:
        settings: dict[str, Any] = {
            "dtype": weights,
            "use_safetensors": True,  # other weight files are pickles
            "output_loading_info": True,
            "ignore_mismatched_sizes": True,  # they are refused by name
            **_origin(trust_remote_code, revision),
            **quantization_settings(quantization, weights),
        }
        if torch.device(device).type != "cpu":
            settings["device_map"] = {"": torch.device(device)}
        try:
            settings["config"] = config = read_configuration(name, trust_remote_code, revision)
            auto = getattr(transformers, _family_by(name, config).auto_class)
            kernel = choose_attention(attention, compute or weights, config)
            try:
                model, info = auto.from_pretrained(name, attn_implementation=kernel, **settings)
            except (ValueError, ImportError) as error:
                # A model that knows no flash-attention; nothing has been loaded yet.
                if attention not in (None, "auto") or kernel is None or "lash" not in str(error):
                    raise
                model, info = auto.from_pretrained(name, **settings)
        except UNUSABLE as error:
            raise explain_unusable(name, error) from error
        check_weights(name, model, info)
    check_model(name, model, family_of(model))
    mend_generation_config(model)
    mend_tied_names(model)
    return model


def load_stored(
    name: str,
    *,
    dtype: str = "float32",
    device: torch.device | str = "cpu",
    attention: str | None = "auto",
    seed: int = 0,
    trust_remote_code: bool = False,
    revision: str | None = None,
    compute: torch.dtype | None = None,
    widen: bool = True,
) -> PreTrainedModel:
    """Loads a model whose weights are taken over one after another, by ``shard`` or ``load_full_state``.

    They are maps of their files, so that the processes of a machine share the memory. 16-bit weights that are wanted in
    float32 stay as they are, for the taker to widen, which loses nothing. Where the files have another type than is
    wanted in 16 bits, or several, the whole model is loaded to the device instead.

    The arguments are those of ``load_model``; ``dtype`` and ``device`` are what is wanted in the end, and ``widen`` is
    whether the taker widens: adapters need what they adapt in the wanted type.
    """
    settings: dict[str, Any] = {
        "compute": compute or DTYPES.get(dtype),
        "attention": attention,
        "seed": seed,
        "trust_remote_code": trust_remote_code,
        "revision": revision,
    }
    stored = dtype if name == EMBEDDED_MODEL else _stored_dtype(name, revision)
    if stored == dtype:
        return load_model(name, dtype=dtype, **settings)
    if stored is not None and dtype == "float32" and widen:
        model = load_model(name, dtype=stored, **settings)
        # What is computed for a buffer in 16 bits is not what float32 would give; most models have none.
        if not any(buffer.dtype == DTYPES[stored] for buffer in model.buffers()):
            note_dtype(model.config, torch.float32)
            return model
    return load_model(name, dtype=dtype, device=device, **settings)


def _stored_dtype(name: str, revision: str | None) -> str | None:
    """The one type that the floating numbers in a model's weight files have; None if there are several or no files."""
    from transformers.utils.hub import cached_file

    find = partial(
        cached_file, name, revision=revision, _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    index = find("model.safetensors.index.json")
    names = {"model.safetensors"} if index is None else set(read_json(Path(index))["weight_map"].values())
    kinds = set()
    for file in sorted(names):
        path = find(file)
        if path is None:
            return None
        with safe_open(path, "pt") as weights:
            kinds |= {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118 - it is no dict
    named = {_STORED.get(kind, kind) for kind in kinds if kind[0] in "BF"}
    return named.pop() if len(named) == 1 and named <= DTYPES.keys() else None


def load_renderer(
    name: str, model: nn.Module | None = None, *, trust_remote_code: bool = False, revision: str | None = None
) -> Renderer:
    """Loads the processor of a model, with the arguments of ``load_model``, and wraps it in a renderer.

    Of the ``model``, where it is given, the generation config says which tokens end a response, and the configuration
    how many positions it has.

    Raises:
        ConfigError: nothing usable is at ``name``, or code would run that is not pinned.
    """
    from transformers import AutoProcessor

    check_trust(name, trust_remote_code, revision)
    family = NATIVE
    if name == EMBEDDED_MODEL:
        processor: ProcessorMixin = build_tiny_processor()
    else:
        origin = _origin(trust_remote_code, revision)
        try:
            family = _family_by(name, read_configuration(name, trust_remote_code, revision))
            processor = AutoProcessor.from_pretrained(name, **origin)
            _restore_backend(processor, name, origin)
        except UNUSABLE as error:
            raise explain_unusable(name, error) from error
    generation: Any = getattr(model, "generation_config", None)
    ends = getattr(generation, "eos_token_id", None)
    return family.renderer(processor, [ends] if isinstance(ends, int) else list(ends or ()), find_positions(model))


def find_positions(model: Any) -> int | None:
    """How many tokens a model can read and write in all, by its configuration; None if it does not say."""
    text = None if model is None else model.config.get_text_config()
    positions: int | None = getattr(text, "max_position_embeddings", None)
    if positions is None:
        return None
    # Some configurations have the positions before they were stretched.
    stretch = getattr(text, "rope_parameters", None) or {}
    original = stretch.get("original_max_position_embeddings") or positions
    return max(positions, int(original * (stretch.get("factor") or 1)))


def _restore_backend(processor: Any, name: str, origin: dict[str, Any]) -> None:
    """Prepares pictures with the library that the saved processor did, Pillow or torchvision.

    Transformers takes torchvision wherever it is installed. The pixels differ, so that a stage would train on other
    pictures than the one before it.
    """
    from transformers import AutoImageProcessor

    images: Any = getattr(processor, "image_processor", None)
    saved = getattr(images, SAVED_BACKEND, None)
    if saved is not None and saved != images.backend:
        processor.image_processor = AutoImageProcessor.from_pretrained(name, backend=saved, **origin)
