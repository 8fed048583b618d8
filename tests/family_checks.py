"""What every model family must do: the same checks for each, on tiny models with random weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from mstar.datamodules import PolicyDataModule
from mstar.generation import Request, Sample, TransformersEngine
from mstar.models.backbone import load_model, load_renderer
from mstar.models.families import family_of
from mstar.models.lora import LoraSettings
from mstar.models.prefix import encode_prefix, extend, logits_of
from mstar.models.step_scorer import StepScorer
from mstar.models.tiny import build_tiny_processor
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice
from mstar.types import Prompt

PICTURES = [prompt.images[0] for prompt in TinyDice("validation", 2)]
# Unlike lengths, no picture, two pictures.
PROMPTS = [
    Prompt("one", "Even?", PICTURES[:1]),
    Prompt("none", "How much more is green than purple, and why is it so?"),
    Prompt("two", "What is red plus yellow?", tuple(PICTURES)),
]
OWNERS = [2, 0, 1, 0]
FIRST = ["red = 4\n", "a much longer line than all the others = 12\n", "5", ""]
SECOND = ["Answer: 1", "x", "", "blue is 3\nAnswer: no"]
STEPS = [["red = 4\nAnswer: 9", "no"], ["why = not\nAnswer: 1"], ["5 + 6 = 11\nso it is\nAnswer: 11", "x\ny"]]

Forward = Callable[[Any, Any, Prompt, Sequence[int]], Tensor]
Generate = Callable[[Any, Any, Prompt, int], list[int]]


def make_tokenizer(eos: str, named: dict[str, str], others: Sequence[str] = ()) -> Any:
    """The embedded model's tokenizer with more special tokens.

    Args:
        eos: The end token.
        named: Tokens that a processor asks for by an attribute's name.
        others: Further special tokens.
    """
    from transformers import PreTrainedTokenizerFast

    base = build_tiny_processor().tokenizer
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=base.backend_tokenizer,
        pad_token="<pad>",  # noqa: S106 - a word of the vocabulary
        eos_token=eos,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=named,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(others)}, replace_extra_special_tokens=False)
    return tokenizer


def plain_forward(model: Any, renderer: Any, prompt: Prompt, tail: Sequence[int]) -> Tensor:
    """The logits (T, V) of one row by a plain forward pass, without padding and without a cache."""
    inputs = renderer.prompt_inputs([prompt])
    ids = torch.cat([inputs.ids_BT, torch.tensor([list(tail)], dtype=torch.long)], dim=1)
    extras = {
        name: torch.nn.functional.pad(value, (0, len(tail))) if name.endswith("token_type_ids") else value
        for name, value in inputs.extras.items()
    }
    logits: Tensor = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **extras
    ).logits  # fmt: skip
    return logits[0].float()


def plain_generate(model: Any, renderer: Any, prompt: Prompt, count: int) -> list[int]:
    """The greedy tokens of the model's own ``generate``."""
    inputs = renderer.prompt_inputs([prompt])
    beyond = range(renderer.vocabulary_size, model.get_output_embeddings().weight.shape[0])
    tokens: list[int] = model.generate(
        input_ids=inputs.ids_BT,
        attention_mask=inputs.mask_BT,
        do_sample=False,
        max_new_tokens=count,
        suppress_tokens=[*renderer.banned_ids, *beyond],
        eos_token_id=list(renderer.end_ids),
        **inputs.extras,
    )[0, inputs.ids_BT.shape[1] :].tolist()
    return tokens


def right_padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids, padded, and their mask."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


@torch.inference_mode()
def check_shared_prefill(model: Any, renderer: Any, forward: Forward = plain_forward, twice: bool = True) -> None:
    """The shared prefill's logits equal those of a plain forward pass of every row alone.

    Args:
        model: The model.
        renderer: Its renderer.
        forward: The plain forward pass.
        twice: Whether rows of unequal length are lengthened a second time.
    """
    first = [renderer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in FIRST]
    second = [renderer.tokenizer(text if twice else "", add_special_tokens=False)["input_ids"] for text in SECOND]
    assert len({renderer.prompt_inputs([prompt]).ids_BT.shape[1] for prompt in PROMPTS}) == 3

    prefix = encode_prefix(model, renderer.prompt_inputs(PROMPTS))
    prompt_logits = logits_of(model, prefix.hidden_BH)
    prefix = prefix.select(torch.tensor(OWNERS))
    hidden_1, prefix = extend(model, prefix, *right_padded(first))
    hidden_2, prefix = extend(model, prefix, *right_padded(second)) if twice else (hidden_1[:, :0], prefix)
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(
            prompt_logits[row], forward(model, renderer, prompt, [])[-1], atol=2e-4, rtol=0
        )  # fmt: skip
    for row, owner in enumerate(OWNERS):
        tail = first[row] + second[row]
        wanted = forward(model, renderer, PROMPTS[owner], tail)
        wanted = wanted[len(wanted) - len(tail) :]
        got = torch.cat([hidden_1[row, : len(first[row])], hidden_2[row, : len(second[row])]])
        torch.testing.assert_close(logits_of(model, got), wanted, atol=2e-4, rtol=0)
    # What is compared differs from row to row by far more than the tolerance, and pictures are seen.
    assert prompt_logits.std(0).mean() > 0.05
    other = Prompt("one", PROMPTS[0].question, PICTURES[1:])
    assert (forward(model, renderer, other, [])[-1] - prompt_logits[0]).abs().max() > 0.01


def check_generation(model: Any, renderer: Any, generate: Generate = plain_generate, count: int = 8) -> None:
    """The engine's greedy responses, all in one batch, are those of the model's own ``generate``.

    And no prompt has more tokens than it is said to have at most before its pictures are prepared, which a copy of the
    renderer does as it does itself: on a GPU a thread has one.
    """
    own, copied = (made.prompt_inputs(PROMPTS) for made in (renderer, copy.deepcopy(renderer)))
    assert own.extras.keys() == copied.extras.keys()
    for given, other in (
        (own.ids_BT, copied.ids_BT),
        *((own.extras[name], copied.extras[name]) for name in own.extras),
    ):
        torch.testing.assert_close(other, given, atol=0, rtol=0)
    for prompt in PROMPTS:
        bound = renderer.bound_tokens(prompt)
        assert bound is None or renderer.count_tokens(prompt) <= bound < 2000
    engine = TransformersEngine(max_new_tokens=count, progress=False)
    engine.start(model, renderer)
    together = engine.generate([Request(prompt, (Sample(0, 0.0, 0),)) for prompt in PROMPTS])
    for prompt, (response,) in zip(PROMPTS, together, strict=True):
        tokens = generate(model, renderer, prompt, count)
        assert response.text == renderer.decode(tokens)
    assert len({response.text for (response,) in together}) > 1


def check_scoring(model: Any, renderer: Any) -> None:
    """Responses behind a shared prompt are scored as each behind its own."""
    scorer = StepScorer(model, head_size=8).eval()
    torch.nn.init.normal_(scorer.head.output.weight, generator=torch.Generator().manual_seed(0))
    scored = scorer.score_inputs(scorer.render(renderer, PROMPTS, STEPS))
    assert [len(row) for row in scored] == [2, 1, 2, 3, 2]
    pairs = [(prompt, text) for prompt, texts in zip(PROMPTS, STEPS, strict=True) for text in texts]
    with torch.inference_mode():
        alone = scorer(renderer.response_inputs([p for p, _ in pairs], [t for _, t in pairs])).logits_N
    flat = torch.tensor([logit for row in scored for logit in row])
    assert flat.std() > 0.01
    torch.testing.assert_close(flat, alone, atol=2e-4, rtol=0)


def check_parts(model: Any) -> None:
    """Vision, projector and language are found, do not overlap, and are all there is."""
    total = sum(parameter.numel() for parameter in model.parameters())
    counts = [
        sum(parameter.numel() for parameter in family_of(model).parameters_of(model, part))  # type: ignore[arg-type]
        for part in ("vision", "projector", "language")
    ]
    assert min(counts) > 0
    assert sum(counts) == total


def check_training(folder: Path, root: Path, trust: bool = False, forward: Forward = plain_forward) -> None:
    """One optimizer step trains every part; the loss is that of a plain forward pass; adapters train too."""
    data = PolicyDataModule(TinyDice("seed", 4), batch_size=4)
    rows = [data.train[i] for i in range(4)]
    for lora in (None, LoraSettings(rank=4)):
        seed_everything(0)
        module = PolicyModule(
            str(folder), lr=1e-3, lora=lora, trust_remote_code=trust, gradient_checkpointing=lora is not None
        )
        module.configure_model()
        batch = module.renderer.response_inputs(rows, [row.rationale or "" for row in rows])
        with torch.no_grad():
            before = module.eval().loss(batch).item()
            losses = []
            for row in rows:
                tail = module.renderer.encode_responses([row.rationale or ""])[0][0]
                logits = forward(module.policy, module.renderer, row, tail)[-len(tail) - 1 : -1]
                losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(tail), reduction="none"))
            torch.testing.assert_close(torch.tensor(before), torch.cat(losses).mean(), atol=1e-4, rtol=0)
        start = {name: value.clone() for name, value in module.policy.named_parameters()}
        trainer = Trainer(
            max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=root,
        )  # fmt: skip
        trainer.fit(module.train(), datamodule=data)
        changed = {name for name, value in module.policy.named_parameters() if not torch.equal(value, start[name])}
        if lora is None:
            assert {family_of(module.policy).part_of(name) for name in changed} == {"vision", "projector", "language"}
        else:
            assert changed
            assert all(".lora_" in name for name in changed)
        with torch.no_grad():
            assert module.eval().loss(batch).item() < before

        module.export(root / "exported")
        model = load_model(str(root / "exported"), trust_remote_code=trust).eval()
        renderer = load_renderer(str(root / "exported"), model, trust_remote_code=trust)
        for prompt in PROMPTS:
            with torch.inference_mode():
                wanted = forward(module.policy, module.renderer, prompt, [5, 6])
                torch.testing.assert_close(forward(model, renderer, prompt, [5, 6]), wanted, atol=2e-4, rtol=0)
        allowed = {".json", ".safetensors", ".jinja"} | ({".py"} if trust else set())
        assert {path.suffix for path in (root / "exported").iterdir()} <= allowed
