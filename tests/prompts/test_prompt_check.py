"""Which prompts can be shown to a model: their pictures are decoded, and their tokens counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mstar.errors import ConfigError
from mstar.prompts import TinyDice
from mstar.prompts.images import FileImage
from mstar.prompts.prompt_check import PromptCheck
from mstar.prompts.quarantine import Reason, RowError
from mstar.types import Prompt


@pytest.fixture
def prompts(tmp_path: Path, picture: Callable[..., bytes]) -> list[Prompt]:
    """A good prompt, one whose second picture breaks off, one without pictures, one with a strip, and a missing one."""
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / "bad.png").write_bytes(picture()[:60])
    Image.new("RGB", (1, 300)).save(tmp_path / "strip.png")
    good, bad, strip, gone = (FileImage(f"{name}.png", str(tmp_path)) for name in ("good", "bad", "strip", "gone"))
    return [
        Prompt("a", "Q", (good,)), Prompt("b", "Q", (good, bad)), Prompt("c", "Q"), Prompt("d", "Q", (strip,)),
        Prompt("e", "Q", (gone,)),
    ]  # fmt: skip


def test_prompts_whose_pictures_cannot_be_decoded_are_told(prompts: list[Prompt]) -> None:
    usable, bad = PromptCheck().sift(prompts * 20, list(range(100)))
    assert usable == [prompts[0], prompts[2]] * 20
    assert [(row.row, row.reason) for row in bad[:4]] == [(n, Reason.BROKEN_IMAGE) for n in (1, 3, 4, 6)]
    assert bad[0].content == {"id": "b", "question": "Q", "images": ["good.png", "bad.png"]}
    assert "'strip.png' is a strip of 1x300 pixels" in bad[1].detail
    assert "gone.png" in bad[2].detail
    assert [row.row for row in PromptCheck().sift(prompts)[1]] == [None] * 3


def test_an_opened_prompt_holds_its_pictures(prompts: list[Prompt]) -> None:
    opened = PromptCheck().open(prompts[0])
    Path(prompts[0].images[0].root, "good.png").unlink()  # type: ignore[attr-defined]
    assert opened.images[0].load().size == (16, 16)
    assert opened.images[0].uri == "good.png"
    with pytest.raises(RowError, match=r"good\.png"):
        PromptCheck().open(prompts[1])


def test_tokens_are_counted_with_those_of_the_pictures(tiny: Any, split: Any) -> None:
    prompt = TinyDice("seed", 1)[0]
    for policy, in_a_picture in ((tiny, 4), (split, 5 * 4)):
        renderer = policy.renderer
        count = renderer.count_tokens(prompt)
        assert count == len(renderer.prompt_inputs([prompt]).ids_BT[0])
        assert count - renderer.count_tokens(replace(prompt, images=())) >= in_a_picture
        whole = len(renderer.response_inputs([prompt], ["a = 1"]).labels_BT[0])
        assert count + renderer.count_response_tokens("a = 1") == whole
        assert PromptCheck(renderer, count).open(prompt).id == prompt.id
        assert PromptCheck(renderer, count).sift([prompt]) == ([prompt], [])
        [row] = PromptCheck(renderer, count - 1).sift([prompt])[1]
        assert row.reason is Reason.TOO_LONG
        assert row.detail == f"prompt: {count} tokens, of which {count - 1} are allowed"


def test_an_example_is_counted_with_its_response(tiny: Any) -> None:
    prompt = TinyDice("seed", 1)[0]
    whole = tiny.renderer.count_tokens(prompt) + tiny.renderer.count_response_tokens("a = 1")
    assert PromptCheck(tiny.renderer, max_example_tokens=whole).open(prompt, "a = 1").id == prompt.id
    with pytest.raises(RowError, match="prompt and response"):
        PromptCheck(tiny.renderer, max_example_tokens=whole).open(prompt, "aa = 1")
    check = PromptCheck(tiny.renderer, max_example_tokens=whole)
    assert [fault is None for fault in check.open_all(prompt, ["a = 1", "aa = 1", "1"])[1]] == [True, False, True]
    # The prompt alone, as generation has it, is no example.
    assert PromptCheck(tiny.renderer, max_example_tokens=1).sift([prompt])[1] == []


def test_only_what_may_be_too_long_is_counted(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, reader = TinyDice("seed", 1)[0], tiny.renderer
    bound, response = reader.bound_tokens(prompt), reader.count_response_tokens("a = 1")
    count, counted = reader.count_tokens, []
    monkeypatch.setattr(reader, "count_tokens", lambda asked: counted.append(asked) or count(asked))
    near = PromptCheck(reader, bound), PromptCheck(reader, max_example_tokens=bound + response)
    for check in near:
        assert check.sift([prompt]) == ([prompt], [])
        assert check.open_all(prompt, ["1", "a = 1"])[1] == [None, None]
    assert not counted
    beyond = PromptCheck(reader, bound - 1), PromptCheck(reader, max_example_tokens=bound + response - 1)
    for check in beyond:
        assert check.open_all(prompt, ["1", "a = 1"])[1] == [None, None]
    assert len(counted) == 2


def test_a_prompt_with_the_model_s_own_placeholder_cannot_be_shown(tiny: Any) -> None:
    prompt = Prompt("a", f"What is {tiny.renderer.placeholders[0]}?")
    [row] = PromptCheck(tiny.renderer).sift([prompt])[1]
    assert row.reason is Reason.BAD_TEXT
    assert PromptCheck().sift([prompt])[1] == []


def test_a_prompt_that_leaves_no_position_to_a_response_is_put_aside(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of these characters is a token of its own, and the picture and the template have some, too.
    image = TinyDice("seed", 1)[0].images
    others = tiny.renderer.count_tokens(Prompt("a", "", image))
    fits, not_quite, far = (Prompt("a", "~" * (length - others), image) for length in (255, 256, 400))
    usable, bad = PromptCheck(tiny.renderer).sift([fits, not_quite, far])
    assert usable == [fits]
    assert [row.reason for row in bad] == [Reason.TOO_LONG] * 2
    assert bad[0].detail == "prompt: 256 tokens, and of the model's 256 positions none is left to a response"
    with pytest.raises(RowError, match=r"400 tokens, .* 256 positions"):
        PromptCheck(tiny.renderer, max_prompt_tokens=1000).open(far, "a = 1")
    # What surely fits is not counted, which would take as long as its pictures do.
    monkeypatch.setattr(tiny.renderer, "count_tokens", lambda prompt: pytest.fail("it was counted"))
    assert PromptCheck(tiny.renderer).sift([TinyDice("seed", 1)[0]])[1] == []


def test_limits_out_of_range_are_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match="max_prompt_tokens is 0"):
        PromptCheck(tiny.renderer, 0)
    with pytest.raises(ConfigError, match="there is no model's processor"):
        PromptCheck(max_example_tokens=5)
    with pytest.raises(ConfigError, match="max_bad_share is 2"):
        PromptCheck(max_bad_share=2)
