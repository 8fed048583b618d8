"""What a run may go on with, and what it is refused with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.callbacks.config_check import check_same_run, find_changes
from mstar.cli.parsing import Parser
from mstar.errors import ConfigError

BEFORE: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {"max_epochs": 5, "devices": 1, "accumulate_grad_batches": 2, "default_root_dir": "runs/a"},
    "model": {"class_path": "P", "init_args": {"model_name": "m", "lr": 1e-6, "max_new_tokens": 99}},
    "data": {
        "class_path": "D",
        "init_args": {"train": {"class_path": "T", "init_args": {"size": 3}}, "num_workers": 0},
    },
    "rollout": {
        "class_path": "R",
        "init_args": {
            "num_samples": 16,
            "interval": 0.25,
            "unlabelled_start": 0.0,
            "engine": {"class_path": "E", "init_args": {"batch_size": 64, "max_new_tokens": 99}},
        },
    },
}


def changed(key: str, value: Any) -> dict[str, Any]:
    def put(node: dict[str, Any], names: list[str]) -> dict[str, Any]:
        name, *rest = names
        return node | {name: put(node.get(name, {}), rest) if rest else value}

    return put(BEFORE, key.split("."))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.max_epochs", 8),
        ("trainer.devices", 4),
        ("trainer.logger", False),
        ("trainer.default_root_dir", "/mnt/a"),
        ("trainer.callbacks", [{"class_path": "C"}]),
        ("data.init_args.num_workers", 4),
        ("data.init_args.test", {"class_path": "T"}),
        ("data.init_args.sources.test", {"size": 2}),
        ("model.init_args.max_new_tokens", None),
        ("model.init_args.gradient_checkpointing", True),
        ("rollout.init_args.engine.init_args.batch_size", 8),
        ("rollout.init_args.dynamics", False),
        ("rollout.init_args.keep_iterations", 3),
        ("rollout.init_args.shard_size", 64),
        ("ckpt_path", "last"),
        ("data.init_args.a_new_option", None),
        ("rollout.init_args.reuse", "runs"),
        # What was not set, by its default.
        ("trainer.precision", "32-true"),
    ],
)
def test_what_may_change(key: str, value: Any) -> None:
    assert find_changes(BEFORE, changed(key, value)) == []


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("seed_everything", 1, "seed_everything was 0 and is now 1."),
        ("model.init_args.lr", 1e-5, "model.lr was 1e-06 and is now 1e-05."),
        ("model.init_args.model_name", "n", "model.model_name was 'm' and is now 'n'."),
        ("data.init_args.train.init_args.size", 4, "data.train.size was 3 and is now 4."),
        ("data.init_args.batch_size", 4, "data.batch_size was not set and is now 4."),
        ("rollout.init_args.num_samples", 8, "rollout.num_samples was 16 and is now 8."),
        ("rollout.init_args.interval", 0.5, "rollout.interval was 0.25 and is now 0.5."),
        (
            "rollout.init_args.engine.init_args.max_new_tokens",
            9,
            "rollout.engine.max_new_tokens was 99 and is now 9.",
        ),
        ("rollout.init_args.engine.class_path", "F", "rollout.engine.class_path was 'E' and is now 'F'."),
        ("trainer.accumulate_grad_batches", 4, "trainer.accumulate_grad_batches was 2 and is now 4."),
        ("trainer.precision", "bf16-mixed", "trainer.precision was not set and is now 'bf16-mixed'."),
        ("rollout.init_args.reward_dtype", "bfloat16", "rollout.reward_dtype was not set and is now 'bfloat16'."),
        ("trainer.gradient_clip_val", 1.0, "trainer.gradient_clip_val was not set and is now 1.0."),
    ],
)
def test_what_may_not_change(key: str, value: Any, sentence: str) -> None:
    assert find_changes(BEFORE, changed(key, value)) == [sentence]


@pytest.mark.parametrize("name", ["overlap_shards", "balance.extra_samples"])
def test_shards_stay_as_large_as_they_are_where_what_is_drawn_depends_on_it(name: str) -> None:
    before = changed(f"rollout.init_args.{name}", 0.5)
    options = before["rollout"]["init_args"] | {"shard_size": 64}
    now = before | {"rollout": before["rollout"] | {"init_args": options}}
    assert find_changes(before, now) == ["rollout.shard_size was not set and is now 64."]


def on(devices: Any, batch_size: int, accumulated: int, **trainer: Any) -> dict[str, Any]:
    given = {"devices": devices, "accumulate_grad_batches": accumulated, **trainer}
    return changed("data.init_args.batch_size", batch_size) | {"trainer": BEFORE["trainer"] | given}


@pytest.mark.parametrize(
    ("before", "now", "sentences"),
    [
        (on(8, 2, 8), on(4, 2, 16), []),
        (on(8, 2, 8), on("4", 4, 8), []),
        (on(8, 2, 8), on(8, 2, 4, num_nodes=2), []),
        (on("auto", 2, 8), on(4, 2, 8), []),
        (
            on(8, 2, 8), on(4, 2, 8),
            ["an optimizer step had 128 rows, and on 4 devices it has 64: trainer.accumulate_grad_batches 16 "
             "keeps it."],
        ),
        (on(8, 2, 8), on(8, 1, 16), ["data.batch_size was 2 and is now 1.",
                                     "trainer.accumulate_grad_batches was 8 and is now 16."]),
    ],
)  # fmt: skip
def test_a_step_has_as_many_rows_on_another_number_of_devices(
    before: dict[str, Any], now: dict[str, Any], sentences: list[str]
) -> None:
    assert find_changes(before, now) == sentences


def test_a_step_that_cannot_have_as_many_rows_has_others_which_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert find_changes(on(8, 2, 8), on(3, 2, 8)) == []
    assert "an optimizer step had 128 rows, and on 3 devices it has 48; no trainer" in caplog.text
    assert find_changes(on(8, 2, 8), on(3, 2, 21)) == []
    assert "on 3 devices it has 126" in caplog.text
    [sentence] = find_changes(on(8, 2, 8), on(4, 2, 4))
    assert sentence.startswith("an optimizer step had 128 rows")
    assert sentence.endswith("trainer.accumulate_grad_batches 16 keeps it.")


@pytest.mark.parametrize(("option", "value"), [("unlabelled_start", 0.5), ("final_threshold", 0.0)])
def test_a_limit_that_something_depends_on_stays(option: str, value: float) -> None:
    before = changed(f"rollout.init_args.{option}", value)
    after = before | {"trainer": before["trainer"] | {"max_epochs": 8}}
    assert find_changes(before, after) == ["trainer.max_epochs was 5 and is now 8."]


@pytest.mark.parametrize(
    ("own", "unused", "used"),
    [
        ({"stage": "evolve"}, ("annotation", "warmup", "test"), ("train", "validation", "unlabelled", "dataset")),
        ({"stage": "warmup"}, ("annotation", "train", "validation", "unlabelled"), ("warmup", "dataset")),
        ({"labels": "l"}, ("warmup", "train", "validation", "unlabelled"), ("annotation", "dataset")),
        # A module of one's own may take any.
        ({}, ("test",), ("annotation", "warmup", "train", "validation", "unlabelled", "dataset")),
    ],
)
def test_parts_of_the_sources_that_a_stage_does_not_take_may_change(
    own: dict[str, Any], unused: tuple[str, ...], used: tuple[str, ...]
) -> None:
    sources = {"dataset": {"class_path": "T"}} | {
        name: {"size": 3} for name in ("warmup", "train", "validation", "test", "unlabelled", "annotation")
    }
    before = changed("data.init_args", own | {"sources": sources})
    for name in (*unused, *used):
        after = changed("data.init_args", own | {"sources": sources | {name: {"size": 4}}})
        assert bool(find_changes(before, after)) == (name in used), name


def test_a_warm_up_without_a_part_of_its_own_takes_the_one_of_training() -> None:
    [change] = find_changes(
        *(changed("data.init_args", {"stage": "warmup", "sources": {"train": {"size": size}}}) for size in (3, 4))
    )
    assert change == "data.sources.train.size was 3 and is now 4."


@dataclass(frozen=True)
class Part:
    share: float = 0.5


class Model:
    def __init__(self, lr: float, head: int = 64, part: Part = Part(), loss: str | None = None) -> None:
        pass


def check(root: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    parser = Parser()
    parser.add_argument("--model", type=Model)
    path = f"{__name__}.Model"
    saved = yaml.safe_dump({"model": {"class_path": path, "init_args": before}})
    (root / "config.yaml").write_text(f"# mstar 0.1.0, commit abc\n# lightning\n{saved}")
    check_same_run(root, parser, parser.parse_object({"model": {"class_path": path, "init_args": now}}))


def test_options_that_the_run_s_version_did_not_have_may_have_their_defaults(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        check(tmp_path, {"lr": 1.0, "part": {"share": 0.5}}, {"lr": 1.0})
        assert caplog.messages == ["the run began without these options, which have their defaults: model.head"]
    check(tmp_path, {"lr": 1.0, "head": 64, "loss": None}, {"lr": 1.0})
    with pytest.raises(ConfigError, match=r"configuration: model\.part\.share was not set and is now 0\.25\. Set this"):
        check(tmp_path, {"lr": 1.0}, {"lr": 1.0, "part": {"share": 0.25}})
    # What was switched off is not what was not there, and an option without a default has none.
    with pytest.raises(ConfigError, match=r"model\.head was not set and is now 64\. model\.lr was not set "):
        check(tmp_path, {"head": None}, {"lr": 1.0})


def test_what_this_version_does_not_have_cannot_be_set_back(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"old was 1 and is now not set\. .* with \(mstar 0\.1\.0, commit abc\), or"):
        check(tmp_path, {"lr": 1.0, "old": 1}, {"lr": 1.0})
    with pytest.raises(ConfigError, match=r"model\.lr was 2\.0 and is now 1\.0\. .* to start a new run\.$"):
        check(tmp_path, {"lr": 2.0, "old": None}, {"lr": 1.0})


def test_a_file_that_only_lies_elsewhere_now_is_linked_from_its_old_place(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    before = {"lr": 1.0, "head": 64, "part": {"share": 0.5}, "loss": str(tmp_path / "old")}
    with pytest.raises(
        ConfigError, match=r"start a new run\. Where only the place of a file .* a link to it at the old"
    ):
        check(tmp_path, before, before | {"loss": str(tmp_path / "new")})
    with pytest.raises(ConfigError, match=r"start a new run\.$"):
        check(tmp_path, before, before | {"loss": str(tmp_path / "newer")})
    # No file system has a name of this length.
    with pytest.raises(ConfigError, match=r"start a new run\.$"):
        check(tmp_path, before, before | {"loss": "x" * 300})
