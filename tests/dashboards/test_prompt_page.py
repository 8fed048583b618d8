"""The page of prompts as the model sees them."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

from PIL import Image

from mstar.dashboards.prompt_page import render_prompt_page
from mstar.prompts import TinyDice
from mstar.prompts.images import LoadedImage
from mstar.types import Prompt


def learned(page: str) -> list[str]:
    prompts = page.partition('<section id="prompts">')[2]
    return [html.unescape(text) for text in re.findall(r'<span class="learned">(.*?)</span>', prompts, re.DOTALL)][1:]


def test_the_loss_is_over_the_response_and_its_end(tiny: Any) -> None:
    prompt = TinyDice("seed", 1)[0]
    unanswered = replace(prompt, rationale=None, answer="41")
    page = render_prompt_page("Dice", [("rows", "2")], [prompt, unanswered], tiny.renderer)
    end = tiny.renderer.end_texts[-1]
    assert learned(page) == [f"{prompt.rationale}{end}", f"41{end}"]
    assert html.escape(prompt.question) in page
    assert page.count('src="data:image/png;base64,') == 2


def test_a_response_that_repeats_a_token_is_counted_out(tiny: Any) -> None:
    prompt = replace(TinyDice("seed", 1)[0], rationale="red red red red red red")
    [text] = learned(render_prompt_page("Dice", [], [prompt], tiny.renderer))
    assert "×" in text


def test_no_text_becomes_markup_and_nothing_is_loaded() -> None:
    evil = Prompt("<i>", 'Q <script>alert("1")</script>\u202e', answer="</b><img src=x>")
    page = render_prompt_page("<u>", [("<a>", "<c>")], [evil], None)
    assert not re.search(r"<(script|i|u|a|c|img)\b", page)
    assert "\u202e" not in page
    assert "default-src 'none'" in page
    assert "http" not in re.sub(r"http-equiv", "", page)


def test_a_prompt_that_cannot_be_shown_says_why(tiny: Any) -> None:
    prompt = Prompt("a", "What is <image>?", answer="1")
    assert "stands for a picture" in render_prompt_page("Dice", [], [prompt], tiny.renderer)
    strip = replace(prompt, question="Q", images=(LoadedImage("strip.png", Image.new("RGB", (402, 2))),))
    assert "is a strip of 402x2 pixels" in render_prompt_page("Dice", [], [strip], tiny.renderer)
