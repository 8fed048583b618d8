"""The step scorer: a vision-language backbone with a head that reads one score at the last token of every step.

Shapes: B rows, T tokens, N the steps (or, where said, the response tokens) of all rows in order, H hidden, F features,
P prompts, R responses, L response tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mstar.atomic import atomic_path
from mstar.errors import ConfigError
from mstar.file_faults import find_fault
from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.models.families import family_of
from mstar.models.prefix import encode_prefix, extend
from mstar.models.seeding import seeded
from mstar.models.step_head import StepHead, StepLogits, logprob_features
from mstar.models.token_loss import token_losses
from mstar.rendering import IGNORE_INDEX, ModelInputs, Renderer, ResponseInputs
from mstar.storage import read_json, suggest_export, write_json
from mstar.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["SharedInputs", "StepScorer", "check_step_scorer", "refuse_step_scorer"]

_FORMAT: Final = 1
_DESCRIPTION: Final = "mprm.json"
_HEAD: Final = "step_head.safetensors"


@dataclass
class SharedInputs:
    """Responses with their prompts, each prompt (and its images) once for all the responses to it.

    Not frozen, because Lightning moves a batch to a device by setting its fields.

    Attributes:
        prompts: The P prompts, left-padded.
        owner_R: For every response, the row of its prompt.
        ids_RL: The responses' tokens, closed by the end token, right-padded.
        mask_RL: 1 for real response tokens.
        step_ends: For every response, the position in L of the last token of each step.
    """

    prompts: ModelInputs
    owner_R: Tensor
    ids_RL: Tensor
    mask_RL: Tensor
    step_ends: list[list[int]]

    @classmethod
    def render(
        cls, renderer: Renderer, prompts: Sequence[Prompt], owners: Sequence[int], responses: Sequence[str]
    ) -> SharedInputs:
        """Renders responses and their prompts.

        Args:
            renderer: The model's renderer.
            prompts: The distinct prompts.
            owners: For every response, the number of its prompt.
            responses: The responses' texts, at least one.
        """
        tokens, step_ends = renderer.encode_responses(responses)
        ids_RL = pad_sequence([torch.tensor(row) for row in tokens], batch_first=True)
        lengths_R = torch.tensor([len(row) for row in tokens])
        mask_RL = (torch.arange(ids_RL.shape[1])[None] < lengths_R[:, None]).long()
        return cls(renderer.prompt_inputs(prompts), torch.tensor(owners), ids_RL, mask_RL, step_ends)

    def to(self, device: torch.device | str) -> SharedInputs:
        """The same inputs on another device."""
        owner_R, ids_RL, mask_RL = (value.to(device) for value in (self.owner_R, self.ids_RL, self.mask_RL))
        return SharedInputs(self.prompts.to(device), owner_R, ids_RL, mask_RL, self.step_ends)


class StepScorer(nn.Module):
    """Multimodal process reward model (M-STaR: MPRM): reads image, question and response, scores every step.

    The head sees the hidden state at the last token of the step. With ``step_logprob_features`` it also sees how
    likely the model's own language head finds the tokens of the step (lowest and summed log-probability, and the
    lowest probability); gradients flow through them.

    Args:
        backbone: The vision-language model, usually a copy of the policy.
        step_logprob_features: Whether the head sees the log-probability features.
        head_size: Width of the head's hidden layer.
        seed: Seed of the head's first weights; the global random state is left as it was.

    Raises:
        ConfigError: ``head_size`` is below 1.
    """

    def __init__(
        self, backbone: PreTrainedModel, *, step_logprob_features: bool = True, head_size: int = 64, seed: int = 0
    ) -> None:
        super().__init__()
        if head_size < 1:
            raise ConfigError(f"head_size is {head_size}, but the step head needs at least 1 unit.")
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
        if isinstance(batch, SharedInputs):
            return self._forward_shared(batch)
        inputs = batch.inputs
        hidden_BTH = family_of(self.backbone).hidden_states(self.backbone, inputs.ids_BT, inputs.mask_BT, inputs.extras)
        # A row's response is one run of labelled tokens, and each token is predicted one position before its own.
        response_BT = batch.labels_BT != IGNORE_INDEX
        row_N, column_N = response_BT.nonzero(as_tuple=True)
        starts = response_BT.int().argmax(1).tolist()
        ends = [[end - start for end in row] for start, row in zip(starts, batch.step_ends, strict=True)]
        return self._score_steps(
            hidden_BTH[row_N, column_N - 1],
            hidden_BTH[row_N, column_N],
            batch.labels_BT[row_N, column_N],
            response_BT.sum(1).tolist(),
            ends,
        )

    def _forward_shared(self, batch: SharedInputs) -> StepLogits:
        prefix = encode_prefix(self.backbone, batch.prompts).select(batch.owner_R)
        before_R1H = prefix.hidden_BH[:, None]
        hidden_RLH, _ = extend(self.backbone, prefix, batch.ids_RL, batch.mask_RL)
        predicting_RLH = torch.cat([before_R1H, hidden_RLH[:, :-1]], dim=1)
        real_RL = batch.mask_RL.bool()
        lengths = batch.mask_RL.sum(1).tolist()
        return self._score_steps(
            predicting_RLH[real_RL], hidden_RLH[real_RL], batch.ids_RL[real_RL], lengths, batch.step_ends
        )

    @torch.inference_mode()
    def score(
        self, renderer: Renderer, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, ...]]]:
        """Scores all steps of several responses a prompt in one pass; each prompt and its images are encoded once.

        Args:
            renderer: The model's renderer.
            prompts: P prompts.
            responses: For every prompt, its responses; at least one in all.

        Returns:
            For every prompt and response the logits of its steps, equal to ``forward``'s up to rounding; ``()`` for a
            response without steps.
        """
        owners = [number for number, texts in enumerate(responses) for _ in texts]
        batch = SharedInputs.render(renderer, prompts, owners, [text for texts in responses for text in texts])
        steps = self(batch.to(next(self.backbone.parameters()).device))
        rows: list[list[float]] = [[] for _ in owners]
        for row, logit in zip(steps.row_N.tolist(), steps.logits_N.tolist(), strict=True):
            rows[row].append(logit)
        scored = iter(rows)
        return [[tuple(next(scored)) for _ in texts] for texts in responses]

    def _score_steps(
        self, predicting_NH: Tensor, hidden_NH: Tensor, ids_N: Tensor, lengths: list[int], ends: list[list[int]]
    ) -> StepLogits:
        """Scores steps from the states of all response tokens of all rows, laid end to end.

        Args:
            predicting_NH: The hidden state that predicts each token.
            hidden_NH: The hidden state at each token.
            ids_N: The tokens.
            lengths: Tokens of each row.
            ends: For each row, the index of each step's last token in the row.
        """
        last: list[int] = []
        owners: list[int] = []
        step_rows: list[int] = []
        offset = 0
        for row, (length, row_ends) in enumerate(zip(lengths, ends, strict=True)):
            begin = 0
            for end in row_ends:
                owners += [len(last)] * (end + 1 - begin)
                last.append(offset + end)
                step_rows.append(row)
                begin = end + 1
            # Tokens after the last step (those of a blank response) belong to none.
            owners += [-1] * (length - begin)
            offset += length
        device = hidden_NH.device
        last_N = torch.tensor(last, dtype=torch.long, device=device)
        features_NF = None
        if self.step_logprob_features:
            owner_N = torch.tensor(owners, dtype=torch.long, device=device)
            inside_N = owner_N >= 0
            logprob_N = -token_losses(self.backbone, predicting_NH[inside_N], ids_N[inside_N])
            features_NF = logprob_features(logprob_N, owner_N[inside_N], len(last))
        row_N = torch.tensor(step_rows, dtype=torch.long, device=device)
        # Sharded weights are fetched for a backward pass where it enters a layer by its output. Without the features it
        # would enter the last layer of a shared prompt by its keys and values alone; adding nothing opens the way.
        return StepLogits(self.head(hidden_NH[last_N], features_NF) + predicting_NH[:0].sum(), row_N)

    def save(
        self,
        folder: Path,
        renderer: Renderer,
        *,
        state: Mapping[str, Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Writes a folder that ``load`` reads: the backbone as a Hugging Face folder, the head, and ``mprm.json``.

        Args:
            folder: The folder; it is made if need be, and the description is written last.
            renderer: The backbone's renderer, whose processor is saved too.
            state: The scorer's state, if not that which it holds (whole tensors of a sharded scorer).
            dtype: Type of the backbone's weights in the folder; by default the one that they have.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _DESCRIPTION).unlink(missing_ok=True)
        parts = None if state is None else {part: _part(state, f"{part}.") for part in ("backbone", "head")}
        save_model(self.backbone, renderer, folder, state=None if parts is None else parts["backbone"], dtype=dtype)
        own = self.head.state_dict() if parts is None else parts["head"]
        head = {name: value.detach().cpu().contiguous() for name, value in own.items()}
        with atomic_path(folder / _HEAD) as temporary:
            save_file(head, temporary)
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

        Args:
            folder: What ``save`` wrote.
            dtype: Of the backbone; the head stays in float32.
            compute: As for ``load_model``.
            attention: As for ``load_model``.
            trust_remote_code: Whether Python code in the folder may run.
            quantization: As for ``load_model``.
            device: As for ``load_model``.

        Raises:
            ConfigError: the folder is missing, is not an MPRM, or was written by another version.
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
    """Checks that a folder holds a step scorer, by its small files alone; no weight of the backbone is read.

    Args:
        folder: What ``StepScorer.save`` wrote.

    Returns:
        The settings of the scorer.

    Raises:
        ConfigError: the folder is missing, is not an MPRM, was written by another version, or lacks a part.
    """
    if not folder.is_dir():
        raise ConfigError(f"MPRM folder '{folder}' does not exist: train and export an MPRM, or mend the path.")
    if not (folder / _DESCRIPTION).is_file():
        raise ConfigError(
            f"'{folder}' is not an exported MPRM (it has no {_DESCRIPTION}): give an MPRM's folder."
            f"{suggest_export(folder, 'mprm')}"
        )
    description: dict[str, Any] = read_json(folder / _DESCRIPTION)
    if description.get("format") != _FORMAT:
        raise ConfigError(
            f"{folder / _DESCRIPTION} has format {description.get('format')}, but this version of mstar reads "
            f"format {_FORMAT}: export the MPRM again."
        )
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
