"""The MPRM as a reward: when it is loaded, and probabilities per step, whatever the batching."""

from __future__ import annotations

import logging
import math
import shutil
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mstar.callbacks.rollout_stages import RolloutStages
from mstar.errors import ConfigError
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.response_scorer import SharedInputs
from mstar.models.step_scorer import StepScorer
from mstar.prompts import TinyDice
from mstar.rendering import Renderer
from mstar.rewards import MPRM, RewardHost, aggregate
from mstar.storage import RunDirectory
from mstar.types import Prompt

TEXTS = ["red = 4\nblue = 5\nAnswer: 9", "red = 4\nAnswer: 1", "Answer: 2", "red is 7\nblue is 1\n7 + 1 = 8\nAnswer: 8"]


@dataclass
class Visit:
    """Whether the weights are on the device."""

    begun: int = 0
    now: bool = False


class CountingScorer(StepScorer):
    """Remembers what it was asked to score."""

    def render(self, renderer: Renderer, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> SharedInputs:
        self.calls.append([list(texts) for texts in responses])
        return super().render(renderer, prompts, responses)


def load_mprm(folder: Path | str, host: RewardHost = RewardHost(), **settings: Any) -> MPRM:  # noqa: B008
    """A loaded MPRM."""
    reward = MPRM(str(folder), **settings)
    reward.load(host)
    return reward


@pytest.fixture
def scorer() -> CountingScorer:
    made = CountingScorer(load_model(EMBEDDED_MODEL, seed=1))
    torch.nn.init.normal_(made.head.output.weight, generator=torch.Generator().manual_seed(0))
    made.calls = []
    return made


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return load_renderer(EMBEDDED_MODEL, load_model(EMBEDDED_MODEL))


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return list(TinyDice("validation", 3))


def test_a_new_mprm_takes_the_place_of_the_old_one(
    warm_mprm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = MPRM(str(warm_mprm))
    assert not reward.ready
    reward.load(RewardHost())
    first = reward._loaded
    assert first is not None
    reward.refresh(warm_mprm)
    reward.load(RewardHost())
    assert reward._loaded is first
    # The memory was found to be enough for so many.
    reward.batch_size = 5
    gone = weakref.ref(first[0])
    del first
    shutil.copytree(warm_mprm, tmp_path / "next")
    load = StepScorer.load.__func__  # type: ignore[attr-defined]

    def load_alone(cls: type, *arguments: Any, **options: Any) -> Any:
        assert gone() is None
        return load(cls, *arguments, **options)

    monkeypatch.setattr(StepScorer, "load", classmethod(load_alone))
    before = reward.facts()
    reward.refresh(tmp_path / "next")
    reward.load(RewardHost())
    assert reward.batch_size == 5
    # The same weights in another folder.
    assert reward.facts() == before
    assert before["dtype"] == "float32"


@pytest.mark.parametrize("waits", [False, True])
def test_in_a_run_that_retrained_none_it_is_the_first_one_again(warm_mprm: Path, tmp_path: Path, waits: bool) -> None:
    """A rollout callback may have retrained it for another trainer before."""
    shutil.copytree(warm_mprm, tmp_path / "mprm/0002/model")
    reward = MPRM(None if waits else str(warm_mprm))
    policy = SimpleNamespace(
        device="cpu", compute_precision=RewardHost().precision, attention=None, trust_remote_code=False
    )
    stages: Any = SimpleNamespace(settings=SimpleNamespace(reward=reward), policy=policy, run=RunDirectory(tmp_path))
    RolloutStages.load_reward(stages, "mprm/0002/model")
    assert reward.ready
    shutil.rmtree(tmp_path / "mprm")
    RolloutStages.load_reward(stages, None)
    assert (reward.ready, reward._loaded_from) == ((False, None) if waits else (True, str(warm_mprm)))
    reward.check()


def test_one_without_a_folder_waits(tmp_path: Path) -> None:
    reward = MPRM()
    reward.check()
    reward.load(RewardHost())
    assert not reward.ready
    with pytest.raises(ConfigError, match="missing"):
        MPRM(str(tmp_path / "missing")).check()


def test_a_published_prm_is_no_folder_of_an_mprm() -> None:
    with pytest.raises(ConfigError, match=r"'Qwen/Qwen2\.5-Math-PRM-7B' does not exist.*named by its class, such as"):
        MPRM("Qwen/Qwen2.5-Math-PRM-7B").check()


def test_scores_are_the_probabilities_of_the_logits(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt]
) -> None:
    [[scores]] = MPRM.holding(scorer, renderer).score_texts([(prompts[0], TEXTS[:1])])
    steps = scorer.eval()(renderer.response_inputs(prompts[:1], TEXTS[:1]))
    assert scores == pytest.approx(steps.logits_N.sigmoid().tolist(), abs=1e-5)
    assert aggregate(scores) == min(scores)


@pytest.mark.parametrize("enough", [64, 2])
def test_on_a_gpu_the_next_batch_is_prepared_while_one_is_scored(
    scorer: CountingScorer,
    renderer: Renderer,
    prompts: list[Prompt],
    monkeypatch: pytest.MonkeyPatch,
    enough: int,
) -> None:
    groups = [(prompt, TEXTS) for prompt in prompts]
    expected = MPRM.holding(scorer, renderer, 4 if enough > 4 else 2).score_texts(groups)
    scorer.calls.clear()
    tried = short_of_memory(scorer, enough, monkeypatch)
    render, score, begun = CountingScorer.render, CountingScorer.score_inputs, threading.Semaphore(0)

    def begin(*arguments: Any) -> SharedInputs:
        assert threading.current_thread() is not threading.main_thread()
        begun.release()
        return render(*arguments)

    def wait(self: CountingScorer, batch: SharedInputs) -> Any:
        # Another one than this was begun, unless this is the last one.
        assert begun.acquire(timeout=60)
        assert sum(tried) >= 8 or begun.acquire(timeout=60)
        begun.release()
        return score(self, batch)

    monkeypatch.setattr(CountingScorer, "render", begin)
    if enough == 64:
        monkeypatch.setattr(CountingScorer, "score_inputs", wait)
    monkeypatch.setattr("mstar.rewards.mprm._computes_apart", lambda device: True)
    assert MPRM.holding(scorer, renderer, 4).score_texts(groups) == expected
    assert tried == ([4, 4, 4] if enough == 64 else [4, *[2] * 6])


@pytest.mark.parametrize("bias", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers_are_no_scores(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], bias: float
) -> None:
    torch.nn.init.constant_(scorer.head.output.bias, bias)
    [rows] = MPRM.holding(scorer, renderer).score_texts([(prompts[1], TEXTS)])
    assert all(math.isnan(score) for row in rows for score in row)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_do_not_change_the_scores(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], batch_size: int
) -> None:
    groups = [(prompts[0], TEXTS), (prompts[1], []), (prompts[2], TEXTS[:2])]
    scored = MPRM.holding(scorer, renderer, batch_size).score_texts(groups)
    assert [len(rows) for rows in scored] == [4, 0, 2]
    assert max(sum(map(len, call)) for call in scorer.calls) <= batch_size
    for (prompt, texts), rows in zip(groups, scored, strict=True):
        for text, row in zip(texts, rows, strict=True):
            alone = scorer(renderer.response_inputs([prompt], [text])).logits_N.sigmoid().tolist()
            assert row == pytest.approx(alone, abs=1e-4)


def test_equal_responses_are_scored_once_and_blank_ones_never(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt]
) -> None:
    texts = [TEXTS[0], "", TEXTS[1], TEXTS[0], " \n"]
    [scored] = MPRM.holding(scorer, renderer).score_texts([(prompts[0], texts)])
    assert scorer.calls == [[[TEXTS[0], TEXTS[1]]]]
    assert scored[0] == scored[3]
    assert scored[1] == scored[4] == ()
    assert aggregate(scored[1]) == 0.0


def test_nothing_to_score(scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt]) -> None:
    assert MPRM.holding(scorer, renderer).score_texts([(prompts[0], [""]), (prompts[1], [])]) == [[()], []]
    assert scorer.calls == []


def test_a_loaded_mprm_scores_as_the_saved_one(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], tmp_path: Path
) -> None:
    scorer.save(tmp_path, renderer)
    groups = [(prompt, TEXTS) for prompt in prompts]
    expected = MPRM.holding(scorer, renderer, 5).score_texts(groups)
    assert load_mprm(tmp_path, batch_size=5).score_texts(groups) == expected


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        MPRM(batch_size=0)


def short_of_memory(scorer: CountingScorer, enough: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has the memory be enough for so many responses at a time; returns how many were tried."""
    tried: list[int] = []
    score = StepScorer.score_inputs

    def limited(self: StepScorer, batch: SharedInputs) -> Any:
        tried.append(len(batch.step_ends))
        if tried[-1] > enough:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return score(self, batch)

    monkeypatch.setattr(CountingScorer, "score_inputs", limited)
    return tried


def test_a_batch_is_halved_where_the_memory_is_short(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [(prompt, TEXTS) for prompt in prompts]
    expected = MPRM.holding(scorer, renderer).score_texts(groups)
    tried = short_of_memory(scorer, 3, monkeypatch)
    reward = MPRM.holding(scorer, renderer, 8)
    found = reward.score_texts(groups)
    for rows, others in zip(found, expected, strict=True):
        assert [pytest.approx(row, abs=1e-5) for row in rows] == others
    assert tried[:2] == [8, 4]
    # It is remembered.
    assert reward.batch_size == 2
    tried.clear()
    reward.score_texts(groups)
    assert max(tried) == 2


def test_all_of_a_prompt_with_several_batches_of_responses_are_scored_where_the_memory_is_short(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"red = {number}\nAnswer: {number}" for number in range(15)]
    tried = short_of_memory(scorer, 2, monkeypatch)
    [rows] = MPRM.holding(scorer, renderer, 4).score_texts([(prompts[0], texts)])
    assert [len(row) for row in rows] == [2] * 15
    assert tried == [4, *[2] * 7, 1]


def test_memory_that_is_too_short_for_one_response_is_an_error(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = short_of_memory(scorer, 0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        MPRM.holding(scorer, renderer, 4).score_texts([(prompts[0], TEXTS)])
    assert tried == [4, 2, 1]


def test_weights_are_on_the_device_only_while_it_scores(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = Visit()

    @contextmanager
    def on_device(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
        assert model is scorer
        assert device.type == "cpu"
        visit.begun, visit.now = visit.begun + 1, True
        yield
        visit.now = False

    monkeypatch.setattr("mstar.rewards.mprm.on_device", on_device)
    score = StepScorer.score_inputs

    def within(self: StepScorer, *arguments: Any) -> Any:
        assert visit.now
        return score(self, *arguments)

    monkeypatch.setattr(CountingScorer, "score_inputs", within)
    reward = MPRM.holding(scorer, renderer, 2)
    reward._place = torch.device("cpu")
    reward.score_texts([(prompt, TEXTS) for prompt in prompts])
    assert visit == Visit(begun=1, now=False)


@pytest.mark.parametrize(
    ("settings", "placed"),
    [
        ({}, "cpu"),  # brought there to score
        ({"offload": True}, "cpu"),
        ({"offload": False}, "meta"),
        ({"quantization": "nf4"}, "meta"),
        ({"quantization": "nf4", "offload": False}, "meta"),
    ],
)
def test_an_mprm_is_loaded_to_where_it_stays(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], placed: str
) -> None:
    asked: dict[str, Any] = {}

    def load(folder: str, **options: Any) -> tuple[torch.nn.Module, None]:
        asked.update(options)
        scorer = torch.nn.Linear(1, 1)
        scorer.backbone = None  # type: ignore[assignment]
        return scorer, None

    monkeypatch.setattr(StepScorer, "load", load)
    monkeypatch.setattr("mstar.rewards.mprm.kernel_of", lambda backbone: "sdpa")
    reward = load_mprm("mprm", RewardHost("meta"), **settings)
    assert torch.device(asked["device"]).type == placed
    assert asked["quantization"] == settings.get("quantization", "none")
    assert reward._place == torch.device("meta")
    assert reward._loaded is not None
    assert not any(parameter.requires_grad for parameter in reward._loaded[0].parameters())


def test_an_mprm_in_four_bits_is_not_offloaded() -> None:
    with pytest.raises(ConfigError, match="in 4 bits stays on its device"):
        MPRM("mprm", quantization="nf4", offload=True)


def test_an_mprm_in_four_bits_scores_much_the_same(
    scorer: CountingScorer, renderer: Renderer, prompts: list[Prompt], tmp_path: Path
) -> None:
    scorer.head.output.weight.data.mul_(0.05)
    scorer.save(tmp_path, renderer)
    groups = [(prompt, TEXTS) for prompt in prompts]
    plain = load_mprm(tmp_path)
    quantised = load_mprm(tmp_path, quantization="nf4")
    assert quantised._loaded is not None
    backbone: Any = quantised._loaded[0].backbone
    assert backbone.model.text_model.layers[0].mlp.up_proj.weight.dtype == torch.uint8
    assert backbone.model.vision_model.encoder.layers[0].mlp.fc1.weight.dtype == torch.float32
    for rows, others in zip(quantised.score_texts(groups), plain.score_texts(groups), strict=True):
        for row, other in zip(rows, others, strict=True):
            assert row != other
            assert row == pytest.approx(other, abs=0.1)


def test_responses_beyond_the_positions_are_told_once(
    scorer: CountingScorer, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("mstar"), "propagate", True)
    [prompt] = TinyDice("validation", 1)
    reward = MPRM.holding(scorer, renderer, batch_size=2)
    text = "red = 4\nAnswer: 4"
    tokens = renderer.count_tokens(prompt) + renderer.count_response_tokens(text)
    monkeypatch.setattr(renderer, "positions", tokens)
    reward.score_texts([(prompt, [text])])
    assert caplog.messages == []
    for _ in range(2):
        reward.score_texts([(prompt, [text, text + "1", text + "2", text + "3"])])
    [said] = caplog.messages
    assert said.startswith("MPRM: 3 responses have, with their prompts, more tokens than")
    assert f"({tokens})" in said
