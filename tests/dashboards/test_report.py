from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from mstar.dashboards.report import write_report
from mstar.errors import ConfigError, DataError
from mstar.prompts.images import FileImage
from mstar.storage import RunDirectory, read_json, write_json, write_step_labels
from mstar.types import Prompt, StepLabels

from .conftest import Page  # type: ignore[import-not-found]


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
        "The best of many leads by chance, too: the lead is biased upwards",
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
