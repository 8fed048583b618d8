"""``python -m mstar score``: step scores and rewards of responses that are there already, by any reward."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Final

import mstar.rewards.published  # noqa: F401  # the parser takes the short names of the classes that are loaded
from mstar.atomic import require_writable, write_text
from mstar.dashboards.run_config import SavedConfig, read_configs
from mstar.dashboards.run_pictures import RunPictures
from mstar.dashboards.score_page import render_score_page
from mstar.distributed import (
    claim_together,
    find_device,
    is_main,
    joined_processes,
    refuse_lone_tasks,
    sum_all,
    wait_for_all,
)
from mstar.errors import ConfigError, require_least
from mstar.evaluation.best_of_n import measure_best_of_n, render_best_of_n
from mstar.evaluation.scoring import SHARD, OpenPicture, score_shards
from mstar.grading import AnswerGrader, Grader
from mstar.locking import hold_folder
from mstar.models.precision import DTYPES, Precision, allow_tensor_cores, resolve_dtype, warn_of_emulation
from mstar.prompts import PixelLimits
from mstar.prompts.response_rows import find_response_files
from mstar.provenance import describe, identify_file
from mstar.rewards import MPRM, Aggregation, Reward, RewardHost
from mstar.storage import write_json

_FORMAT: Final = 2


def score_responses(
    reward: Reward | str,
    input: str,
    output: str,
    aggregation: Aggregation = "min",
    grader: Grader | None = None,
    image_root: str | None = None,
    pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
    dtype: str = "auto",
    device: str = "auto",
    attention: str = "auto",
    trust_remote_code: bool = False,
    html: str | None = None,
    shard_size: int = SHARD,
    seed: int = 0,
) -> int:
    """Scores the steps of responses, and measures what the scores are good for.

    With ``torchrun --nproc_per_node N -m mstar score ...`` the processes share the responses out, one device each.

    Args:
        reward: The folder of an exported MPRM, or the class of a reward, such as
            ``mstar.rewards.published.QwenMathPRM`` with ``--reward.model Qwen/Qwen2.5-Math-PRM-7B``.
        input: JSON lines, a Parquet file (such as ``predict`` writes), or the folder of one iteration of a run. Rows
            with ``response``, and where known ``question``, ``images`` (paths, or the pictures themselves),
            ``prompt_id``, ``sample_index``, and what ``grade`` reads; rows that were graded keep their verdicts.
        output: Folder for the scores, in the form of a run's responses; interrupted scoring goes on there. Where gold
            answers are known, ``score.md`` and ``score.json`` there have best-of-N, weighted and plain votes beside
            random and oracle, by N.
        aggregation: What makes one number of a response's scores.
        grader: Grades final answers that have no verdict; None is the general grader.
        image_root: The folder of the picture files; none is the working directory, and of a run's responses where its
            own configuration says that they are.
        pixels: Least and most pixels of a picture.
        dtype: Of the reward's model, where it has one: float32, bfloat16, float16, or auto (16 bits on CUDA, else
            float32).
        device: Where it works: auto (a GPU where there is one), cpu, cuda, cuda:1.
        attention: Attention kernel: auto, sdpa, eager, flash_attention_2, flash_attention_4.
        trust_remote_code: Run Python code that comes with the model; read it first.
        html: A page to write with the table and its curves.
        shard_size: Rows that are read, scored and written as one.
        seed: Seed of the bootstrap.

    Returns:
        The exit status: 1 if a row was left out because it is malformed, else 0.

    Raises:
        ConfigError: there is no input, the reward cannot be loaded, or ``output`` belongs to another scoring.
        DataError: the input is damaged.
    """
    refuse_lone_tasks()
    require_least("", shard_size=shard_size)
    files = find_response_files(input)
    folder = Path(output)
    require_writable(folder)
    if isinstance(reward, str) and "/" not in reward and not Path(reward).exists():
        raise ConfigError(
            f"reward '{reward}' is neither the folder of an exported MPRM nor a class that can be imported: mend the "
            "path, or the class's name."
        )
    chosen = MPRM(reward) if isinstance(reward, str) else reward
    chosen.aggregation = aggregation
    chosen.check()
    place = find_device(device)
    allow_tensor_cores(place)
    dtype = resolve_dtype(dtype, place)
    warn_of_emulation("dtype", dtype, "auto", place)
    weights = DTYPES[dtype]
    chosen.load(RewardHost(place, Precision.of("32-true", weights), attention, trust_remote_code))
    if not chosen.ready:
        raise ConfigError(f"the reward {type(chosen).__name__} has no model: give it one.")
    judge = grader if grader is not None else AnswerGrader()
    facts = {
        "format": _FORMAT,
        "input": [identify_file(file) for file in files],
        "reward": chosen.facts(),
        "aggregation": aggregation,
        "grader": describe(judge),
        "image_root": image_root,
        "pixels": describe(pixels),
        "shard_size": shard_size,
    }
    with joined_processes(), hold_folder(folder) if is_main() else nullcontext():
        claim_together(folder, facts, what="scores", pattern="scores-*.parquet")
        shards = score_shards(
            input, folder, chosen, judge, size=shard_size, open_picture=_opener(files[0], image_root), limits=pixels
        )
        chosen.release()
        judged = sum_all(judge.judged())
        wait_for_all()
    faults = sum(len(path.read_text("utf-8").splitlines()) for path in folder.glob("faults-*.txt"))
    if is_main():
        name = reward if isinstance(reward, str) else type(reward).__name__
        _report(folder, shards, f"{name} on {input}", html, seed)
        for note in judged.notes():
            sys.stdout.write(f"{note}\n")
    return 1 if faults else 0


def _opener(file: Path, image_root: str | None) -> OpenPicture:
    """Finds pictures by their names: those of a run where its own configuration says, as its report does."""
    configs: tuple[SavedConfig, ...] = ()
    # Of a run behind a link the data lies beside the link; a link may lead to one of its files, too.
    for folder in (file.resolve().parent, Path(os.path.abspath(file)).parent):
        root = folder.parent.parent if folder.parent.name == "iterations" else folder
        if (root / "config.yaml").is_file():
            configs = tuple(read_configs(root))
    return RunPictures(configs, image_root).find


def _report(folder: Path, shards: list[Path], title: str, html: str | None, seed: int) -> None:
    result = measure_best_of_n(shards, seed)
    write_json(folder / "score.json", {"title": title, **asdict(result)})
    text = render_best_of_n(result, title)
    write_text(folder / "score.md", text)
    sys.stdout.write(f"{text}\n{folder}\n")
    if html is not None:
        lines = [("responses", str(result.responses)), ("with a gold answer", str(result.graded))]
        lines += [(name, f"{value:.3f}") for name, value in result.aucs.items() if value is not None]
        write_text(Path(html), render_score_page(title, lines, result))
        sys.stdout.write(f"{html}\n")
