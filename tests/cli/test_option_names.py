"""Which option a message of the parser is about, and which one was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch  # noqa: F401 - its optimizers are looked up among what is imported, as in a command

from mstar.cli.option_names import explain_unknown, name_whole, replace_sources


@pytest.mark.parametrize(
    ("message", "given", "known", "sentence"),
    [
        ("Option 'lrr' is not accepted", ["fit", "--model.lrr", "1"], ["lr", "freeze"],
         "there is no option 'model.lrr'; did you mean model.lr?"),
        ("Option 'learning_rate' is not accepted", ["fit", "--model.learning_rate=1"], ["lr", "lora"],
         "there is no option 'model.learning_rate'; did you mean model.lr?"),
        ("Option 'sze' is not accepted", ["fit", "--data.train.init_args.sze", "1"], ["size", "seed"],
         "there is no option 'data.train.sze'; did you mean data.train.size?"),
        ("Group 'trainer' does not accept option 'max_epoch'", ["fit"], ["trainer.max_epochs", "model"],
         "there is no option 'trainer.max_epoch'; did you mean trainer.max_epochs?"),
        ("Subcommand 'fit' does not accept option 'modl'", ["fit"], ["model", "data"],
         "there is no option 'modl'; did you mean model?"),
        ("unrecognized arguments: --seed 3", ["fit", "--seed", "3"], ["seed_everything", "model"],
         "there is no option 'seed'; did you mean seed_everything?"),
        ("unrecognized arguments: --rolout.top_k 3", ["fit", "--rolout.top_k", "3"], ["rollout", "model"],
         "there is no option 'rolout.top_k'; did you mean rollout.top_k?"),
        ("Parser key \"optimizer\": module 'torch.optim' has no attribute 'AdamWW'", ["fit", "--model.optimizer"], [],
         "model.optimizer: there is no 'torch.optim.AdamWW'; did you mean torch.optim.AdamW or torch.optim.Adam or "
         "torch.optim.RAdam?"),
        ("Parser key \"settings\": Unable to load config 'null'", ["annotate", "--settings", "null"], [],
         "settings is null, which it cannot be: leave it out, or write its settings below it."),
        ("unrecognized arguments: --max_bad_share 1",
         ["--prompts", "mstar.prompts.RecordPrompts", "--max_bad_share", "1"],
         ["prompts", "output"], "there is no option 'max_bad_share'; did you mean prompts.max_bad_share?"),
        ("Option 'zebra' is not accepted", ["fit", "--model", "torch.nn.Linear", "--model.zebra", "1"], ["lr"],
         "there is no option 'model.zebra'; see --help."),
        ("Option 'zebra' is not accepted", ["fit", "--model.zebra", "1"], ["lr"],
         "there is no option 'model.zebra' yet: name a configuration by --config, or the class of model before it."),
        ("unrecognized arguments: run.yaml --foo", ["fit", "run.yaml", "--foo"], ["model"],
         "'run.yaml' belongs to no option: put a value with spaces in quotes, and --config before a file."),
        ("Parser key \"grader\": Problem with given class_path 'Foo.Bar': No module named 'Foo'",
         ["fit", "--rollout.grader", "Foo.Bar"], [],
         "rollout.grader is 'Foo.Bar', which cannot be imported (No module named 'Foo'): a class of your own lies in "
         "the working directory or in an installed package."),
    ],
)  # fmt: skip
def test_an_unknown_option(message: str, given: list[str], known: list[str], sentence: str) -> None:
    assert explain_unknown(message, given, known) == sentence


def test_a_value_without_an_option_may_be_that_of_the_one_that_is_missing() -> None:
    message = "Unrecognized arguments: runs/mine"
    meant = "'runs/mine' belongs to no option; did you mean --run runs/mine?"
    assert explain_unknown(message, ["report", "runs/mine"], ["run", "output"], ["run"]) == meant
    for given, required in ((["--run", "a", "runs/mine"], ["run"]), (["runs/mine"], ["input", "output"])):
        told = explain_unknown(message, given, ["run"], required)
        assert told is not None
        assert "did you mean" not in told


def test_options_of_files_are_found_too(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("model:\n  class_path: X\n  init_args:\n    lora: {rnk: 3}\n")
    given = ["fit", "--config", str(config)]
    assert explain_unknown("Option 'rnk' is not accepted", given, ["rank"]) == (
        "there is no option 'model.lora.rnk'; did you mean model.lora.rank?"
    )
    assert name_whole('Parser key "rnk": Expected an int', given) == 'Parser key "model.lora.rnk": Expected an int'


def test_other_messages_stay_as_they_are() -> None:
    assert explain_unknown("File does not exist", ["fit"], ["model"]) is None
    # Two options end so: which one is meant is not known.
    given = ["fit", "--data.train.size", "a", "--data.validation.size", "3"]
    assert name_whole('Parser key "size": no', given) == 'Parser key "size": no'


def test_a_file_of_sources_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    """They were merged: sizes and parts of the data that a shipped file names held for one's own data, too."""
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("data: {init_args: {sources: data.yaml}}\n")
    second.write_text("data: {init_args: {sources: {train: {size: 3}}}}\n")
    begin = ["fit", "--config", str(first)]
    assert replace_sources([*begin, "--data.sources", "x.yaml"]) == [
        *begin, "--data.sources=null", "--data.sources", "x.yaml",
    ]  # fmt: skip
    assert replace_sources([*begin, f"--config={first}"]) == [*begin, "--data.sources=null", f"--config={first}"]
    for unchanged in ([*begin, f"--config={second}", "--data.sources.train.size=4"], ["prompts", "--sources=x.yaml"]):
        assert replace_sources(unchanged) == unchanged
