"""What the sample browser is given; and in a real browser: what a model wrote never runs, and what is clicked works."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mstar.dashboards.report import write_report
from mstar.dashboards.run_pictures import RunPictures
from mstar.dashboards.sample_browser import embed_picture
from mstar.storage import RunDirectory, read_responses, write_responses, write_step_labels
from mstar.types import StepLabels

from .conftest import Page  # type: ignore[import-not-found]


def test_the_sample_holds_pictures_steps_scores_and_fates(run: Path) -> None:
    sample = Page(write_report(run)).sample
    assert len(sample["prompts"]) == 20
    prompt = next(p for p in sample["prompts"] if p["iteration"] == 2 and p["samples"] == 3)
    kept, wrong = prompt["responses"]
    assert kept["fates"] == [["kept", 1], ["duplicate", 1]]
    assert [step[1:] for step in kept["steps"]] == [[0.1, 0], [0.3, 1], [0.5, 2], [0.7, 3]]
    assert (kept["verdict"], kept["reward"], kept["logprob"], kept["count"]) == ("right", 0.1, -2.5, 2)
    assert (wrong["verdict"], wrong["predicted"], wrong["kept"]) == ("wrong", "99", False)
    source = sample["images"][prompt["images"][0]]["source"]
    with Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))) as picture:
        assert picture.size == (32, 32)


def test_without_process_rewards_the_steps_have_no_score(run: Path) -> None:
    sample = Page(write_report(run)).sample
    prompt = next(p for p in sample["prompts"] if p["iteration"] == 1)
    assert {(score, level) for r in prompt["responses"] for _, score, level in r["steps"]} == {(None, None)}
    assert prompt["responses"][0]["reward"] is None


def test_pictures_are_made_smaller_or_replaced_by_the_reason(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 600), "red").save(tmp_path / "wide.png")

    def embed(name: str) -> dict[str, Any]:
        return embed_picture(lambda: RunPictures((), str(tmp_path)).find(name, "p"), name)

    found = embed("wide.png")
    with Image.open(io.BytesIO(base64.b64decode(found["source"].split(",")[1]))) as picture:
        assert picture.size == (1280, 384)
    for name in ("gone\u202e.png", "../outside.png", "\0"):
        reason = embed(name)["error"]
        assert not set(reason) & set("\u202e\0")
    assert "does not exist" in embed("gone.png")["error"]


def test_values_that_json_cannot_hold_are_left_out(run: Path, make_group: Any) -> None:
    import dataclasses

    shard = RunDirectory(run).responses(2, 0)
    group = make_group(20)
    odd = [dataclasses.replace(s, step_scores=(float("nan"),) * 4) for s in group.responses]
    write_responses(shard, [dataclasses.replace(group, responses=tuple(odd))])
    assert len(read_responses(shard)) == 3
    sample = Page(write_report(run)).sample
    (prompt,) = [p for p in sample["prompts"] if p["id"] == "pool-0-20"]
    assert prompt["responses"][0]["steps"][0][1:] == [None, None]


BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,800"]
ATTACK = (
    "</script><script>document.title = 'OWNED'</script><img src=x onerror=\"document.title = 'OWNED'\">"
    "<svg onload=\"document.title = 'OWNED'\"></svg> seen-by-a-reader\nAnswer: 5"
)
needs_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome is installed: 'make browser' gets one")


class Browser:
    """A browser that is told what to do over a pipe (the Chrome DevTools Protocol)."""

    def __init__(self, profile: Path) -> None:
        read_commands, self.commands = os.pipe()
        self.answers, write_answers = os.pipe()
        # It reads commands from the file 3 and answers to the file 4.
        start = f'exec "$0" "$@" 3<&{read_commands} 4>&{write_answers}'
        options = [*OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [shutil.which("bash") or "bash", "-c", start, BROWSER, *options],
            pass_fds=(read_commands, write_answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        self.read = b""
        self.sent = 0
        self.problems: list[Any] = []

    def call(self, method: str, session: str | None = None, **arguments: Any) -> Any:
        """Sends a command and returns its result; what the page complains about meanwhile is kept."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": arguments} | ({"sessionId": session} if session else {})
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.read:
                some = os.read(self.answers, 1 << 16)
                assert some, "the browser ended"
                self.read += some
            text, _, self.read = self.read.partition(b"\0")
            answer = json.loads(text)
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(answer["params"])
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, page: Path) -> Tab:
        """Opens a page and waits until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        tab = Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        self.problems.clear()
        for domain in ("Runtime", "Log"):
            self.call(f"{domain}.enable", tab.session)
        self.call("Page.navigate", tab.session, url=page.as_uri())
        while tab.run("location.protocol + document.readyState") != "file:complete":
            pass
        return tab

    def close(self) -> None:
        """Ends the browser."""
        os.close(self.commands)
        self.process.wait(60)
        os.close(self.answers)


class Tab:
    """One open page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session

    def run(self, script: str) -> Any:
        """The value of an expression, or what its promise comes to."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True}
        result = self.browser.call("Runtime.evaluate", self.session, **asked)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that a selector names."""
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")

    def click(self, selector: str, number: int = 0) -> None:
        """Clicks on the middle of an element, with the mouse."""
        box = self.run(
            f"(() => {{ const e = document.querySelectorAll({json.dumps(selector)})[{number}];"
            "e.scrollIntoView({behavior: 'instant', block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            place = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self.browser.call("Input.dispatchMouseEvent", self.session, type=kind, **place)

    def write(self, selector: str, text: str) -> None:
        """Types a text into a field, in place of what is in it."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.browser.call("Input.insertText", self.session, text=text)

    def choose(self, number: int, option: str) -> None:
        """Chooses an option of a list."""
        self.run(
            f"(() => {{ const s = document.querySelectorAll('select')[{number}]; s.value = {json.dumps('=' + option)};"
            "s.dispatchEvent(new Event('change')); })()"
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def rendered(page: Path, profile: Path) -> str:
    """The document as it stands after the browser has run what it would run."""
    command = [BROWSER, *OPTIONS, f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom"]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True, timeout=120).stdout


def title(document: str) -> str:
    found = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert found is not None
    return found[1]


@needs_browser
def test_the_attack_works_on_a_page_that_does_not_escape_it(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><head><title>report</title></head><body>{ATTACK}</body></html>")
    assert title(rendered(page, tmp_path / "profile")) == "OWNED"


@needs_browser
def test_nothing_that_a_model_wrote_runs(tmp_path: Path, run: Path, make_group: Any) -> None:
    for iteration in (1, 2):
        for shard in (0, 1):
            group = make_group(10 * iteration + shard, ATTACK)
            write_responses(RunDirectory(run).responses(iteration, shard), [group])
    steps = tuple(ATTACK.splitlines(keepends=True))
    labels = [StepLabels(f"p{ATTACK}", ATTACK, steps, (1, 0), (4, 1), False)]
    write_step_labels(run / ATTACK.partition("<img")[0].replace("/", "") / "labels-00000.parquet", labels)
    (run / "config.yaml").write_text(f"engine: |\n  {ATTACK.splitlines()[0]}\n")
    document = rendered(write_report(run), tmp_path / "profile")
    assert "OWNED" not in title(document)
    # The sample browsers, which are built by the page's own script, show the responses as text.
    body = re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)
    assert "&lt;svg onload=" in body
    assert body.count("seen-by-a-reader") >= 4
    assert '<img src="x"' not in body


@needs_browser
def test_every_prompt_can_be_reached(browser: Browser, run: Path) -> None:
    page = browser.open(write_report(run))
    assert page.texts(".found") == ["20 prompts"]
    assert len(page.texts(".prompt")) == 8
    page.click("#samples > .browser > .more")
    page.click("#samples > .browser > .more")
    assert len(set(page.texts(".prompt .facts"))) == 20
    assert browser.problems == []


@needs_browser
def test_text_is_found_in_questions_and_responses(browser: Browser, run: Path) -> None:
    page = browser.open(write_report(run))
    page.write("input[type=search]", " EVIL.example/x ")
    # Only the responses with the text are shown, in both iterations' first prompts, which have it.
    assert page.texts(".found") == ["2 prompts"]
    assert page.texts(".response mark") == ["evil.example/x"] * 2
    assert len(page.texts(".response")) == 2
    page.write("input[type=search]", "pool-0-23")
    assert page.texts(".found") == ["1 prompt"]
    assert page.texts(".facts mark") == ["pool-0-23"]
    assert len(page.texts(".response")) == 2
    page.write("input[type=search]", "<no such text>")
    assert page.texts(".found") == ["0 prompts"]
    assert browser.problems == []


@needs_browser
def test_one_prompt_is_followed_over_the_iterations(browser: Browser, run: Path, make_group: Any) -> None:
    write_responses(RunDirectory(run).responses(2, 0), [make_group(12, "Answer: later"), make_group(20)])
    page = browser.open(write_report(run))
    page.write("input[type=search]", "pool-0-12")
    assert page.texts(".found") == ["1 prompt"]
    assert page.texts(".iterations button") == ["1: 2/3", "2: 2/4"]
    assert "iteration 2" in page.texts(".facts")[0]
    assert any("later" in text for text in page.texts(".response"))
    page.click(".iterations button")
    assert page.run("document.querySelector('.iterations [aria-pressed=true]').textContent") == "1: 2/3"
    assert "iteration 1" in page.texts(".facts")[0]
    assert not any("later" in text for text in page.texts(".response"))
    page.write("input[type=search]", "")
    page.choose(0, "1")
    # Iteration 1 alone: the other is shown as a button that cannot be pressed.
    assert page.texts(".iterations button:disabled") == ["2: 2/4"]
    assert all("iteration 1" in text for text in page.texts(".facts"))
    assert browser.problems == []


@needs_browser
def test_a_picture_is_enlarged(browser: Browser, run: Path) -> None:
    page = browser.open(write_report(run))
    width = "document.querySelector('.zoom img').getBoundingClientRect().width"
    page.click(".picture", 1)
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.run("document.querySelector('dialog').open")
    assert page.run("document.querySelector('.zoom img').src === document.querySelectorAll('.picture img')[1].src")
    whole = page.run(width)
    assert 500 < whole <= 1200
    page.click(".zoom img")
    assert page.run(width) == pytest.approx(2 * whole, rel=0.01)
    # The place that was clicked on is in the middle.
    assert page.run("document.querySelector('dialog').scrollLeft") > 0
    page.click(".zoom button")
    assert not page.run("document.querySelector('dialog').open")
    assert browser.problems == []


@needs_browser
def test_an_annotation_can_be_browsed(browser: Browser, tmp_path: Path, make_group: Any) -> None:
    prompts = [make_group(index).prompt for index in range(12)]
    labels = [
        StepLabels(
            prompt.id,
            f"one {right}\ntwo",
            (f"one {right}\n", "two"),
            (1 + 2 * right, int(right)),
            (4, 1),
            right,
            finished=right,
        )
        for prompt in prompts
        for right in (True, False)
    ]
    write_step_labels(tmp_path / "labels-00000.parquet", labels, prompts)
    page = browser.open(write_report(tmp_path, max_prompts=9))
    assert page.texts(".found") == ["9 prompts"]
    assert page.texts(".prompt:first-child .chip") == ["0.75", "1.00", "0.25", "0.00"]
    assert page.texts(".prompt .question")[0] == prompts[0].question
    page.choose(1, "wrong")
    assert set(page.texts(".prompt .verdict b")) == {"✗ wrong"}
    assert all("cut off" in text for text in page.texts(".prompt .measures"))
    assert browser.problems == []
