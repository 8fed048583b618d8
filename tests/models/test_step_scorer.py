"""The step scorer: features and steps by hand, inference equal to training, and saved folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mstar.errors import ConfigError
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.prefix import logits_of
from mstar.models.step_scorer import StepScorer
from mstar.prompts import TinyDice
from mstar.rendering import Renderer
from mstar.types import Prompt

RESPONSES = [
    ["red = 4\nblue = 5\n4 + 5 = 9\nAnswer: yes", "red = 4", "blue is 1\n\nAnswer: no"],
    ["a much longer first line with many words in it\nAnswer: 12"],
    ["Answer: 1\nAnswer: 2\nAnswer: 3\nAnswer: 4\nAnswer: 5", "x\ny"],
]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return load_renderer(EMBEDDED_MODEL, load_model(EMBEDDED_MODEL))


def make_scorer(features: bool = True, head_size: int = 8) -> StepScorer:
    """A scorer whose head gives every input a say."""
    scorer = StepScorer(load_model(EMBEDDED_MODEL, seed=3), step_logprob_features=features, head_size=head_size)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        scorer.head.output.weight.normal_(generator=generator)
        scorer.head.output.bias.fill_(0.25)
        if scorer.head.linear is not None:
            scorer.head.linear.weight.normal_(generator=generator)
    return scorer.eval()


def score(
    scorer: StepScorer, renderer: Renderer, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
) -> list[list[tuple[float, ...]]]:
    """The logits of the steps of each prompt's responses."""
    scored = iter(scorer.score_inputs(scorer.render(renderer, prompts, responses)))
    return [[next(scored) for _ in texts] for texts in responses]


def prompts() -> list[Prompt]:
    """Three prompts whose questions have different lengths."""
    short, long = Prompt("short", "Even?"), Prompt("long", "How much more is green than purple, and why?")
    return [TinyDice("validation", 1)[0], short, long]


@pytest.mark.parametrize("features", [True, False])
def test_score_equals_forward_for_unequal_prompts_and_responses(renderer: Renderer, features: bool) -> None:
    scorer = make_scorer(features)
    scored = score(scorer, renderer, prompts(), RESPONSES)
    pairs = [(prompt, text) for prompt, texts in zip(prompts(), RESPONSES, strict=True) for text in texts]
    steps = scorer(renderer.response_inputs([prompt for prompt, _ in pairs], [text for _, text in pairs]))

    assert [[len(row) for row in rows] for rows in scored] == [[4, 1, 2], [2], [5, 2]]
    assert steps.row_N.tolist() == [0, 0, 0, 0, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 5, 5]
    flat = torch.tensor([logit for rows in scored for row in rows for logit in row])
    assert flat.std() > 0.01
    assert (flat - steps.logits_N).abs().max() < 1e-4


def test_a_step_is_scored_from_its_own_tokens_and_what_precedes_them(renderer: Renderer) -> None:
    scorer = make_scorer()
    prompt = prompts()[0]
    [[whole, other]] = score(scorer, renderer, [prompt], [["red = 4\nblue = 5\nAnswer: 9", "red = 4\nblue = 6\nno"]])
    assert whole[0] == pytest.approx(other[0], abs=1e-5)
    assert abs(whole[1] - other[1]) > 1e-3


def test_the_image_changes_the_score(renderer: Renderer) -> None:
    scorer = make_scorer()
    first, second = TinyDice("validation", 2)
    asked_of_other = Prompt(second.id, first.question, second.images)
    [[(a,)], [(b,)]] = score(scorer, renderer, [first, asked_of_other], [["red = 4"], ["red = 4"]])
    assert abs(a - b) > 1e-4


def test_the_head_starts_from_the_likelihood_of_the_least_likely_token(renderer: Renderer) -> None:
    backbone = load_model(EMBEDDED_MODEL, seed=3).eval().requires_grad_(False)
    prompt, text = prompts()[0], "red = 4\nAnswer: 9"
    batch = renderer.response_inputs([prompt], [text])
    steps = StepScorer(backbone)(batch)

    ids = batch.inputs.ids_BT[0]
    hidden = backbone.model(input_ids=batch.inputs.ids_BT, **batch.inputs.extras).last_hidden_state[0]
    logprobs = logits_of(backbone, hidden).log_softmax(-1)
    [[end_1, end_2]] = batch.step_ends
    start = int((batch.labels_BT[0] != -100).nonzero()[0])
    for logit, span in zip(steps.logits_N, [range(start, end_1 + 1), range(end_1 + 1, end_2 + 1)], strict=True):
        lowest = min(float(logprobs[i - 1, ids[i]]) for i in span)
        assert logit.item() == pytest.approx(0.3 * (max(lowest, -12) + 1), abs=1e-4)


def test_gradients_reach_the_backbone_through_the_logprobs(renderer: Renderer) -> None:
    # At the start the network's last layer is zero, so the only way into the backbone is through the features.
    with_features, without = StepScorer(load_model(EMBEDDED_MODEL)), StepScorer(
        load_model(EMBEDDED_MODEL), step_logprob_features=False
    )  # fmt: skip
    batch = renderer.response_inputs(prompts()[:1], ["red = 4\nAnswer: 9"])
    for scorer, expected in ((with_features, True), (without, False)):
        scorer(batch).logits_N.sum().backward()
        gradient = scorer.backbone.get_input_embeddings().weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is expected


def test_a_blank_response_has_no_steps_beside_others(renderer: Renderer) -> None:
    scorer = make_scorer()
    [[full, blank]] = score(scorer, renderer, prompts()[:1], [["red = 4\nAnswer: 9", " \n"]])
    [[alone]] = score(scorer, renderer, prompts()[:1], [["red = 4\nAnswer: 9"]])
    assert blank == ()
    assert full == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(("features", "head_size"), [(True, 8), (False, 5)])
def test_a_saved_scorer_loads_with_the_same_scores(
    renderer: Renderer, tmp_path: Path, features: bool, head_size: int
) -> None:
    scorer = make_scorer(features, head_size)
    scorer.save(tmp_path / "mprm", renderer)
    loaded, loaded_renderer = StepScorer.load(tmp_path / "mprm")
    assert not loaded.training
    expected = score(scorer, renderer, prompts(), RESPONSES)
    assert score(loaded, loaded_renderer, prompts(), RESPONSES) == expected
    assert not list((tmp_path / "mprm").glob("*.bin"))


def test_head_weights_follow_from_their_seed_and_leave_the_global_state_alone() -> None:
    backbone = load_model(EMBEDDED_MODEL)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two, three = (StepScorer(backbone, seed=seed).head.hidden.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_what_is_not_an_mprm_is_refused_by_name(renderer: Renderer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing' does not exist"):
        StepScorer.load(tmp_path / "missing")
    (tmp_path / "policy").mkdir()
    with pytest.raises(ConfigError, match="policy' is not an exported MPRM"):
        StepScorer.load(tmp_path / "policy")
    folder = tmp_path / "mprm"
    make_scorer().save(folder, renderer)
    (folder / "step_head.safetensors").write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"step head in .* cannot be loaded"):
        StepScorer.load(folder)


def test_an_empty_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="head_size is 0"):
        StepScorer(load_model(EMBEDDED_MODEL), head_size=0)
