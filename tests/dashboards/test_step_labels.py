from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mstar.annotation.annotation import Annotation
from mstar.dashboards.step_labels import find_label_sets
from mstar.errors import DataError
from mstar.storage import write_step_labels
from mstar.types import StepLabels


def label(prompt_id: str, *counts: int, right: bool) -> StepLabels:
    steps = tuple(f"{number}\n" for number in range(len(counts)))
    totals = (*[4] * (len(counts) - 1), 1)
    return StepLabels(prompt_id, "".join(steps), steps, counts, totals, right)


def test_a_step_that_a_judge_left_without_a_label_is_not_counted(tmp_path: Path) -> None:
    labels = replace(label("p", 4, 0, 1, right=True), num_total=(4, 0, 1))
    write_step_labels(tmp_path / "labels-00000.parquet", [labels])
    (found,) = find_label_sets(tmp_path, 1)
    assert (found.num_steps, found.levels) == (1, (0, 0, 0, 0, 1))
    counted = Annotation()
    counted.add([labels])
    assert counted.num_steps == 2


def test_labels_are_counted_over_all_shards(tmp_path: Path, make_group: Any) -> None:
    prompts = [make_group(index).prompt for index in range(3)]
    first = [label(prompts[0].id, 4, 2, 1, right=True), label(prompts[0].id, 1, 0, 0, right=False)]
    second = [label(prompts[2].id, 2, 1, right=True)]
    write_step_labels(tmp_path / "labels-00000.parquet", first, prompts)
    write_step_labels(tmp_path / "labels-00001.parquet", second, prompts)
    (labels,) = find_label_sets(tmp_path, 5)
    counts = (labels.num_prompts, labels.num_responses, labels.num_right, labels.num_steps)
    assert counts == (2, 3, 2, 5)
    # 1.0, 0.5, 0.25, 0.0 and 0.5; the last steps' are left out.
    assert labels.levels == (1, 1, 2, 0, 1)
    assert labels.right == ((1, 0.75), (2, 0.5))
    assert labels.wrong == ((1, 0.25), (2, 0.0))
    one, other = labels.prompts
    known = (prompts[0].question, prompts[0].answer, prompts[0].category)
    assert (one["question"], one["answer"], one["category"]) == known
    assert one["images"] == [prompts[0].images[0].uri]
    assert [step[1] for r in one["responses"] for step in r["steps"]] == [1.0, 0.5, 1.0, 0.25, 0.0, 0.0]
    assert (other["id"], len(other["responses"])) == (prompts[2].id, 1)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_of_labels_without_prompts_the_ids_are_known(tmp_path: Path, count: int) -> None:
    rows = [label(f"p{number}", 1, right=False) for number in range(3)]
    write_step_labels(tmp_path / "annotate" / "labels-00000.parquet", rows)
    (labels,) = find_label_sets(tmp_path, count)
    assert (labels.path, labels.levels, labels.wrong) == ("annotate", (0, 0, 0, 0, 0), ())
    assert len(labels.prompts) == min(count, 3)
    assert all(prompt["question"] == "" and prompt["id"].startswith("p") for prompt in labels.prompts)


def test_the_labels_of_mprms_that_were_trained_within_a_run_are_found(tmp_path: Path) -> None:
    places = ("evolve/mprm/0002-ab/labels", "mprm/0002-ab/labels", "mprm/0004-cd/labels")
    for place in places:
        write_step_labels(tmp_path / place / "labels-00000.parquet", [label("p", 1, 1, right=True)])
    assert [labels.path for labels in find_label_sets(tmp_path, 1)] == list(places)


def test_no_labels_are_no_label_set_and_damaged_ones_are_named(tmp_path: Path) -> None:
    assert find_label_sets(tmp_path, 1) == ()
    write_step_labels(tmp_path / "labels-00000.parquet", [])
    assert find_label_sets(tmp_path, 1) == ()
    (tmp_path / "labels-00001.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"labels-00001\.parquet"):
        find_label_sets(tmp_path, 1)
