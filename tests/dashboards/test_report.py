from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from mstar.dashboards.report import write_report
from mstar.dashboards.run_pictures import RunPictures
from mstar.dashboards.sample_browser import embed_image
from mstar.errors import ConfigError, DataError
from mstar.prompts.images import FileImage
from mstar.storage import RunDirectory, read_json, read_responses, write_json, write_responses, write_step_labels
from mstar.types import Prompt, StepLabels


class Page(HTMLParser):
    """A parsed page: its tags with attributes, its visible text, and its scripts."""

    VOID = frozenset({"meta", "input", "br", "img"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text += data

    @property
    def sample(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


def test_the_page_is_well_formed_and_loads_nothing(run: Path, hostile: str) -> None:
    (run / "config.yaml").write_text(f"engine: |\n  {hostile}\n")
    path = write_report(run)
    page = Page(path)
    assert path == run / "report.html"
    assert page.open == []
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not {"link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")]
        assert (attributes.get("href") or "#").startswith("#")
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    # The only address is the one in the hostile text, which is text in the config and in the sample.
    assert set(re.findall(r"https?://[^\s\"'\\]+", page.source)) == {"https://evil.example/x.png"}


def test_hostile_text_is_never_markup(run: Path, hostile: str) -> None:
    (run / "config.yaml").write_text(f"engine: |\n  {hostile}\n")
    write_json(run / "summary.json", {"warmup_accuracy": 0.5, "notes": [hostile], "stage_seconds": {hostile: 3}})
    page = Page(write_report(run))
    assert "<script>alert" not in page.source
    assert "<img" not in page.source
    assert not [c for c in page.source if c in "\x00\u202e\u2028"]
    assert page.text.count("<script>alert(1)</script>") == 3
    assert page.text.count("\\u0000 \\u202egnp.exe \\u2028") == 3
    assert "<" not in page.scripts[0]
    steps = [step[0] for p in page.sample["prompts"] for r in p["responses"] for step in r["steps"]]
    assert any("</script><script>alert(1)</script><img src=x" in s and "\\u0000 \\u202egnp" in s for s in steps)


def test_only_the_page_s_own_script_may_run(run: Path) -> None:
    page = Page(write_report(run))
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    assert directives["script-src"] == f"'sha256-{digest}'"


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


def test_the_numbers_are_on_the_page(run: Path) -> None:
    page = Page(write_report(run))
    text = page.text.replace("\u202f", " ")
    shown = (
        "25 %",
        "1 min 15 s",
        "30.0 s",
        "3 min 00 s",
        "new MPRM",
        "T = 0.3T = 0.7lead, in points2reward_pass@240.0 %60.0 %+20.0 ± 5.0",
        "On 1 250 validation prompts.",
        "with good and bad responses: last 1 100.",
        "prompts put aside",
        "4 of 10 prompts were voted on, and 1 got no answer",
        "share of the responses 25 %",
        "nats a token 0.0123",
        "0.71",
        "1 234",
        "0.80",
        "or stop paying for it",
        "up to 3/4",
        "<i>odd</i>/even",
    )
    for part in shown:
        assert part in text.replace("\n", "")
    assert "<b>60.0\u202f%</b>" in page.source
    assert "grading timed out" not in text


def test_a_staged_run_shows_its_test_accuracies(run: Path) -> None:
    write_json(
        run / "summary.json",
        {
            "seed": 3,
            "warmup_accuracy": 0.48,
            "iteration_accuracies": [0.6, 0.7],
            "final_accuracy": 0.701,
            "seed_sft_accuracy": 0.47,
            "warmup_chain_accuracy": 0.29,
            "final_chain_accuracy": 0.55,
            "mprm_within_prompt_auc": 0.919,
            "stage_seconds": {"warmup": 61, "evolve": 3700},
        },
    )
    page = Page(write_report(run))
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th>((?:<td[^>]*>[^<]*</td>){2})</tr>', page.source)
    table = {name: re.findall(r">([^<]+)</td>", cells) for name, cells in rows}
    unit = "\u202f%"
    assert table["warm-up"] == [f"48.0{unit}", f"29.0{unit}"]
    assert table["iteration 2"] == [f"70.0{unit}", "–"]
    assert "final" not in table
    # A line to what other training came to would say what it was on the way.
    assert "self-evolving, accuracy" in page.source
    assert "seed-only SFT, accuracy" not in page.source
    assert table["seed-only SFT, same steps"] == [f"47.0{unit}", "–"]
    assert "0.919" in page.text
    assert "1 h 02 min" in page.text


def test_a_run_without_iterations_says_so(tmp_path: Path) -> None:
    (tmp_path / "iterations").mkdir()
    page = Page(write_report(tmp_path))
    assert page.text.count("This run has no iteration yet.") == 5
    assert "There is no response to show." in page.text
    assert "No config.yaml was found" in page.text


def test_a_run_in_its_first_iteration_has_no_funnel_yet(tmp_path: Path) -> None:
    write_json(RunDirectory(tmp_path).report(0), {"iteration": 0, "dynamics": {"greedy_accuracy": 0.25, "k": 4}})
    page = Page(write_report(tmp_path))
    assert "greedy accuracy 25" in page.text
    assert "<thead>" not in page.source
    assert "This run has no iteration yet." in page.text


def test_a_supervised_run_shows_its_losses_and_nothing_of_iterations(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("rollout: null\n")
    write_json(tmp_path / "finished.json", {"epochs": 3, "steps": 900})
    with SummaryWriter(str(tmp_path / "tensorboard" / "version_0")) as writer:
        for step in range(900):
            writer.add_scalar("train/loss", 2 - step / 900, step)
        writer.add_scalar("val/accuracy", 0.625, 899)
    with SummaryWriter(str(tmp_path / "tensorboard" / "test")) as writer:
        writer.add_scalar("test/accuracy", 0.75, 0)
    page = Page(write_report(tmp_path))
    assert "training run" in page.text
    anchors = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert anchors == ["#training", "#config"]
    text = page.text.replace("\u202f", " ")
    for shown in ("steps900", "epochs3", "62.5 %", "75.0 %", "the mean of 8 logged values"):
        assert shown in text
    assert "iteration" not in page.text
    assert len(page.scripts) == 1


def test_a_run_with_an_objective_shows_what_it_does_to_the_policy_and_no_rate_that_stays(tmp_path: Path) -> None:
    (tmp_path / "iterations").mkdir()
    logged = {"train/loss": 0.5, "train/kl": 0.011, "train/ratio": 1.25, "train/clipped_fraction": 0.07}
    with SummaryWriter(str(tmp_path / "tensorboard" / "version_0")) as writer:
        writer.add_scalar("funnel/kept", 4, 1)
        for step in range(3):
            for tag, value in (logged | {"train/lr": 1e-4, "val/accuracy": 0.5}).items():
                writer.add_scalar(tag, value, step)
    text = Page(write_report(tmp_path)).text
    for shown in ("nats a token 0.011", "mean ratio 1.25", "share 7\u202f%", "training 0.5"):
        assert shown in text
    for left_out in ("Learning rate", "Validation accuracy"):
        assert left_out not in text


def test_an_mprm_s_run_shows_its_ranking_over_the_steps(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "tensorboard" / "version_0")) as writer:
        for step in range(3):
            writer.add_scalar("train/loss", 1.5, step)
            writer.add_scalar("train/step_loss", 0.5, step)
            writer.add_scalar("val/loss", 1.25, step)
            writer.add_scalar("mprm/auc_within", 0.5 + step / 10, step)
    text = Page(write_report(tmp_path)).text
    for shown in ("Ranking (AUC)", "within prompts 0.70", "validation 1.25", "steps (cross-entropy) 0.5"):
        assert shown in text


@pytest.mark.usefixtures("own_cache")
def test_an_annotation_shows_its_labels_with_the_pictures_of_its_configuration(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "one.png")
    prompt = Prompt("p", "What?", (FileImage("one.png", str(tmp_path)),), "3")
    labels = [StepLabels("p", "a\nb", ("a\n", "b"), (1, 1), (4, 1), True)]
    write_step_labels(tmp_path / "out" / "labels-00000.parquet", labels, [prompt])
    (tmp_path / "pool.jsonl").write_text('{"id": "p", "question": "What?", "image": "one.png", "answer": "3"}')
    own = {"path": str(tmp_path / "pool.jsonl")}
    settings = {"prompts": {"class_path": "mstar.prompts.RecordPrompts", "init_args": own}}
    (tmp_path / "out" / "config.yaml").write_text(json.dumps(settings))
    page = Page(write_report(tmp_path / "out"))
    assert "not finished" not in page.text
    anchors = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert anchors == ["#labels", "#config"]
    assert page.sample["images"][0]["source"].startswith("data:image/png")
    (row,) = page.sample["prompts"]
    assert (row["question"], row["answer"], row["iteration"]) == ("What?", "3", None)
    assert row["responses"][0]["steps"] == [["a", 0.25, 1], ["b", 1.0, 4]]


def test_missing_parts_are_named(run: Path) -> None:
    for index in (1, 2):
        write_json(RunDirectory(run).report(index), {"iteration": index, "skipped": index == 2})
    text = Page(write_report(run)).text
    for sentence in ("No process reward model was", "No temperature sweep", "No times", "skipped: nothing kept"):
        assert sentence in text
    assert "1 training not finished" in text
    RunDirectory(run).report(2).unlink()
    assert "not finished: no report yet" in Page(write_report(run)).text


def test_a_run_that_is_not_finished_says_how_far_it_came(run: Path, tmp_path: Path) -> None:
    (run / "config.yaml").write_text("trainer: {max_epochs: 30}\nrollout: {}\n")
    assert "iterations, not finished2 of 30" in Page(write_report(run)).text
    # That of a staged run's part is in its folder.
    assert "refresh it (rollout" in Page(write_report(run)).text
    (run / "config.yaml").write_text("trainer: {max_epochs: 30}\nrollout: {refresh_reward_model: {iterations: [2]}}\n")
    assert "refresh it more often (rollout" in Page(write_report(run)).text
    write_json(run / "finished.json", {"limit": "trainer.max_time", "max_epochs": 30})
    run.rename(tmp_path / "evolve")
    assert "iterations, ended by trainer.max_time2 of 30" in Page(write_report(tmp_path)).text


def test_a_collapse_is_at_the_head_of_the_page(run: Path) -> None:
    path = RunDirectory(run).report(2)
    write_json(path, read_json(path) | {"collapse": "the policy has collapsed: <b>"})
    source = Page(write_report(run)).source
    assert source.index("Iteration 2: the policy has collapsed: &lt;b&gt;.") < source.index('<section id="dynamics">')


def test_pictures_are_made_smaller_or_replaced_by_the_reason(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 600), "red").save(tmp_path / "wide.png")
    found = embed_image("wide.png", RunPictures((), str(tmp_path)), "p")
    with Image.open(io.BytesIO(base64.b64decode(found["source"].split(",")[1]))) as picture:
        assert picture.size == (1280, 384)
    for name in ("gone\u202e.png", "../outside.png", "\0"):
        reason = embed_image(name, RunPictures((), str(tmp_path)), "p")["error"]
        assert not set(reason) & set("\u202e\0")
    assert "does not exist" in embed_image("gone.png", RunPictures((), str(tmp_path)), "p")["error"]


def test_json_in_a_script_survives_a_round_trip(tmp_path: Path) -> None:
    answer = "</script><!-- & \t é"
    labels = [StepLabels("p", "a\nb", ("a\n", "b"), (1, 1), (4, 1), True)]
    write_step_labels(tmp_path / "labels-00000.parquet", labels, [Prompt("p", "?", (), answer)])
    page = Page(write_report(tmp_path))
    assert not set(page.scripts[0]) & set("<>&\u2028\u2029")
    assert page.sample["prompts"][0]["answer"] == answer


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


def test_bad_arguments_leave_the_old_page(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "pages" / "page.html"
    assert write_report(run, output, max_prompts=1) == output
    before = output.read_bytes()
    with pytest.raises(ConfigError, match="max_prompts is -1"):
        write_report(run, output, max_prompts=-1)
    RunDirectory(run).report(1).write_text("{")
    with pytest.raises(DataError, match=r"report\.json is not a JSON file"):
        write_report(run, output)
    assert output.read_bytes() == before
    assert [path.name for path in output.parent.iterdir()] == ["page.html"]
