"""The step scorer: a vision-language backbone with a head that reads one score at the last token of every step.

Shapes: B rows, T tokens, N the response tokens (or, where said, the steps) of all rows in order, S their steps,
H hidden, F features, P prompts, R responses, L response tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mstar.atomic import atomic_path
from mstar.errors import ConfigError, require_least
from mstar.file_faults import find_fault
from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.models.response_scorer import ResponseScorer, SharedInputs, StepPlaces, response_states
from mstar.models.seeding import seeded
from mstar.models.step_head import StepHead, StepLogits, logprob_features
from mstar.models.token_loss import token_losses
from mstar.rendering import Renderer, ResponseInputs
from mstar.storage import read_json, suggest_export, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FORMAT: Final = 1
_DESCRIPTION: Final = "mprm.json"
_HEAD: Final = "step_head.safetensors"


class StepScorer(ResponseScorer):
    """Multimodal process reward model (M-STaR: MPRM): reads image, question and response, scores every step.

    The head sees the hidden state at the last token of the step. With ``step_logprob_features`` it also sees how
    likely the model's own language head finds the tokens of the step (lowest and summed log-probability, and the
    lowest probability); gradients flow through them.

    Args:
        backbone: The vision-language model, usually a copy of the policy.
        head_size: Width of the head's hidden layer.
        seed: Seed of the head's first weights; the global random state is left as it was.

    Raises:
        ConfigError: ``head_size`` is below 1.
    """

    def __init__(
        self, backbone: PreTrainedModel, *, step_logprob_features: bool = True, head_size: int = 64, seed: int = 0
    ) -> None:
        super().__init__()
        require_least("", head_size=head_size)
        self.backbone = backbone
        self.step_logprob_features = step_logprob_features
        self.head_size = head_size
        text_config: Any = backbone.config.get_text_config()
        with seeded(seed):
            self.head = StepHead(text_config.hidden_size, head_size, step_logprob_features)

    def forward(self, batch: ResponseInputs | SharedInputs) -> StepLogits:
        """Scores every step of every response in one pass; the language head runs on response tokens alone.

        Args:
            batch: The responses, each behind its own prompt or with each prompt once. The logits are the same up to
                rounding; the second is cheaper, but cannot be combined with gradient checkpointing.
        """
        states = response_states(self.backbone, batch)
        places = StepPlaces.of(states)
        features_SF = None
        if self.step_logprob_features:
            inside_N = places.owner_N >= 0
            logprob_N = -token_losses(self.backbone, states.predicting_NH[inside_N], states.ids_N[inside_N])
            features_SF = logprob_features(logprob_N, places.owner_N[inside_N], len(places.last_S))
        logits_S = self.head(states.hidden_NH[places.last_S], features_SF)
        # Sharded weights are fetched for a backward pass where it enters a layer by its output. Without the features it
        # would enter the last layer of a shared prompt by its keys and values alone; adding nothing opens the way.
        return StepLogits(logits_S + states.predicting_NH[:0].sum(), places.row_S)

    def save(
        self,
        folder: Path,
        renderer: Renderer,
        *,
        state: Mapping[str, Tensor] | None = None,
        dtype: torch.dtype | None = None,
        base: nn.Module | None = None,
    ) -> None:
        """Writes a folder that ``load`` reads: the backbone as a Hugging Face folder, the head, and ``mprm.json``.

        Args:
            folder: The folder; it is made if need be, and the description is written last.
            renderer: The backbone's renderer, whose processor is saved too.
            state: The scorer's state, if not that which it holds (whole tensors of a sharded scorer).
            dtype: Type of the backbone's weights in the folder; by default the one that they have.
            base: Of a backbone in 4 bits, what its weights were before; see ``save_model``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _DESCRIPTION).unlink(missing_ok=True)
        of_backbone = None if state is None else _part(state, "backbone.")
        save_model(self.backbone, renderer, folder, state=of_backbone, dtype=dtype, base=base)
        of_head = self.head.state_dict() if state is None else _part(state, "head.")
        with atomic_path(folder / _HEAD) as temporary:
            save_file({name: value.detach().cpu().contiguous() for name, value in of_head.items()}, temporary)
        description = {
            "format": _FORMAT,
            "step_logprob_features": self.step_logprob_features,
            "head_size": self.head_size,
        }
        write_json(folder / _DESCRIPTION, description)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        dtype: str = "float32",
        compute: torch.dtype | None = None,
        attention: str | None = "auto",
        trust_remote_code: bool = False,
        quantization: Literal["none", "nf4"] = "none",
        device: torch.device | str = "cpu",
    ) -> tuple[StepScorer, Renderer]:
        """Loads a scorer, in evaluation mode, and its renderer.

        The arguments are those of ``load_model``, for the backbone; the head stays in float32.

        Raises:
            ConfigError: the folder is missing, or is not an MPRM.
        """
        folder = Path(folder)
        description = check_step_scorer(folder)
        backbone = load_model(
            str(folder),
            dtype=dtype,
            compute=compute,
            attention=attention,
            trust_remote_code=trust_remote_code,
            quantization=quantization,
            device=device,
        )
        try:
            scorer = cls(
                backbone,
                step_logprob_features=bool(description["step_logprob_features"]),
                head_size=int(description["head_size"]),
            )
            scorer.head.load_state_dict(load_file(folder / _HEAD))
        except (KeyError, OSError, RuntimeError, SafetensorError) as error:
            raise _unusable_head(folder, error) from error
        scorer.head.to(device)
        return scorer.eval(), load_renderer(str(folder), backbone, trust_remote_code=trust_remote_code)


def refuse_step_scorer(folder: str) -> None:
    """Makes sure that what is to be a policy is not an exported MPRM, whose language model was trained to judge.

    Raises:
        ConfigError: it is one.
    """
    if (Path(folder) / _DESCRIPTION).is_file():
        raise ConfigError(
            f"'{folder}' is an exported MPRM (it has {_DESCRIPTION}), not a policy: give a policy's folder."
        )


def check_step_scorer(folder: Path) -> dict[str, Any]:
    """The settings of the step scorer in a folder, by its small files alone; no weight of the backbone is read.

    Raises:
        ConfigError: the folder is missing, is not an MPRM, or lacks a part.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"MPRM folder '{folder}' does not exist: train and export an MPRM, or mend the path. A PRM that others "
            "published is named by its class, such as mstar.rewards.published.QwenMathPRM, and its model."
        )
    if not (folder / _DESCRIPTION).is_file():
        raise ConfigError(
            f"'{folder}' is not an exported MPRM (it has no {_DESCRIPTION}): give an MPRM's folder."
            f"{suggest_export(folder, 'mprm')}"
        )
    description: dict[str, Any] = read_json(folder / _DESCRIPTION)
    for name in ("config.json", *_weight_files(folder)):
        if not (folder / name).is_file():
            raise ConfigError(f"the MPRM in '{folder}' lacks its file {name}: export it again.")
    try:
        found = load_file(folder / _HEAD)
        head = StepHead(1, int(description["head_size"]), bool(description["step_logprob_features"])).state_dict()
        # How wide the hidden states are, the second dimension of the first weight, the backbone alone knows.
        alike = all(found[name].shape[:1] == value.shape[:1] for name, value in head.items())
    except (KeyError, OSError, SafetensorError) as error:
        raise _unusable_head(folder, error) from error
    if not alike or found.keys() != head.keys():
        raise _unusable_head(folder, f"it is not the one that {_DESCRIPTION} describes")
    return description


def _part(state: Mapping[str, Tensor], beginning: str) -> dict[str, Tensor]:
    return {name.removeprefix(beginning): value for name, value in state.items() if name.startswith(beginning)}


def _weight_files(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    return sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]


def _unusable_head(folder: Path, reason: object) -> ConfigError:
    path = folder / _HEAD
    if path.is_file() and (fault := find_fault(path)) is not None:
        return ConfigError(f"the step head '{path}' {fault}.")
    return ConfigError(f"the step head in '{folder}' cannot be loaded ({reason}): export it again.")
