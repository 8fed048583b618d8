"""Monte-Carlo estimation of step labels (M-STaR: MPRM data; Math-Shepherd).

Responses are sampled from the policy; of each prompt some right and some wrong ones are kept; every distinct step
prefix is continued several times; a step's label is the share of the continuations that reach the gold answer.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from tqdm.auto import tqdm

from mstar.annotation.annotation import Annotation, check_steps, explain_failure, prefixes
from mstar.annotation.continuations import Count, Drawn, Key, count_continuations, is_right, prepare_whole
from mstar.annotation.settings import AnnotationSettings
from mstar.atomic import copy_file
from mstar.distributed import by_leader, claim_together, gather_lists, is_main, leads_group, takes_part, wait_for_all
from mstar.evaluation.gradeable import check_prompts
from mstar.generation import Engine, Request, derive_seed, draw_responses, plan_samples
from mstar.grading import Grader
from mstar.interruption import stop_if_asked
from mstar.judges import StepJudge
from mstar.prompts import PromptSource
from mstar.prompts.prompt_check import PromptCheck
from mstar.prompts.quarantine import PutAside, count_reasons, quarantine_shard
from mstar.provenance import describe, find_change, fingerprint_each, fingerprint_prompts
from mstar.steps import split_steps
from mstar.storage import read_json, read_or_put_aside, read_step_labels, write_step_labels
from mstar.types import Prompt, Response, StepLabels

_log = logging.getLogger(__name__)

# Of the manifest; the first one did not say what graded and what wrote the responses.
_FORMAT: Final = 2
# Share of cut-off continuations above which a warning says so: each of them is a wrong label more.
_MANY_CUT_OFF: Final = 0.03


def annotate(
    prompts: PromptSource | Sequence[Prompt],
    engine: Engine,
    grader: Grader,
    settings: AnnotationSettings,
    output: Path,
    *,
    policy: str = "",
    computed_in: str = "",
    check: PromptCheck | None = None,
    progress: bool = True,
    claimed: Callable[[], None] | None = None,
    responses: Sequence[StepLabels] | None = None,
    judge: StepJudge | None = None,
    earlier: Iterable[Path] = (),
) -> Annotation:
    """Labels the steps of responses to some prompts, shard by shard; shards that exist are not made again.

    Several processes share the shards out; each must be able to see ``output``.

    The labels follow from the seed, the policy and the prompts. Where the engine's rounding depends on the batch, a
    shard is the unit that is reproduced exactly.

    Args:
        prompts: The prompts; each must have a gold answer.
        grader: Grades final answers. A response that was cut off is wrong whatever it says.
        output: Folder of the shards (``labels-00000.parquet``, ...) and their ``manifest.json``.
        policy: What identifies the policy's weights (``fingerprint_model``).
        computed_in: What it computes in, in words (``Precision``).
        check: Tells prompts that can be shown to the policy from those that are put aside, in ``quarantine-*.jsonl``
            files beside the shards; None looks at their pictures alone.
        claimed: Called by the main process once ``output`` is known to be this annotation's, before anything is drawn.
        responses: Labelled responses whose steps are labelled again; None samples responses from the policy.
        judge: Judges the steps, too, or in the place of continuations; its agreement is in ``judge-*.json``.
        earlier: Folders of other annotations; shards in them are taken, not made again, where they depend on the same.

    Returns:
        The files of all shards, with counts.

    Raises:
        ConfigError: ``output`` was made with other settings, prompts or golds, another policy, engine, grader or judge.
        DataError: the prompts cannot be graded (``check_prompts``), too many cannot be shown to the policy, no response
            has more than one step, or nothing is right.
    """
    check = check or PromptCheck()
    check_prompts(prompts, "prompts", grader)
    facts = {
        "format": _FORMAT,
        "settings": _describe_settings(settings),
        "policy": policy,
        "computed_in": computed_in,
        "engine": describe(engine),
        "max_new_tokens": engine.max_new_tokens,
        "grader": describe(grader),
        "num_prompts": len(prompts),
        "prompts": fingerprint_prompts(prompts),
        "max_prompt_tokens": check.max_prompt_tokens,
    }
    if responses is not None:
        facts["responses"] = fingerprint_each((label.prompt_id, label.response) for label in responses)
    if judge is not None:
        facts["judge"] = describe(judge)
    claim_together(output, facts, what="step labels", pattern="labels-*.parquet")
    if is_main():
        if claimed is not None:
            claimed()
        _take_over(output, facts, earlier)
    wait_for_all()
    places: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(responses or ()):
        places[label.prompt_id].append(place)
    leader = leads_group(engine.group_size)
    seen = Annotation()
    sampled, continued = Drawn(), Drawn()
    starts = range(0, len(prompts), settings.shard_size)
    paths = [output / f"labels-{shard:05d}.parquet" for shard in range(len(starts))]
    sizes = [min(settings.shard_size, len(prompts) - start) for start in starts]
    own = {shard for shard in range(len(paths)) if takes_part(shard, engine.group_size)}
    before = {shard for shard in own if paths[shard].exists()}
    with tqdm(
        total=sum(sizes[shard] for shard in own), initial=sum(sizes[shard] for shard in before), desc="annotate",
        unit="prompt", smoothing=0, disable=not (progress and is_main()),
    ) as bar:  # fmt: skip
        # Not those of others: NFS would go on for a minute to say that they are not there.
        for shard in sorted(own):
            stop_if_asked()
            start, path = starts[shard], paths[shard]
            stop = start + sizes[shard]
            there = read_or_put_aside(path, read_step_labels)
            if there is not None:
                seen.add(there)
            else:
                usable, bad = check.sift([prompts[i] for i in range(start, stop)], range(start, stop))
                # To the others no response is ever right: all of their steps would be labelled wrong.
                usable = [prompt for prompt in usable if grader.is_gradeable(prompt)]
                put_aside = output / f"quarantine-{shard:05d}.jsonl"
                quarantine_shard(put_aside, bad, "prompts", len(prompts), check.max_bad_share)
                alone = judge is not None and judge.use == "alone"
                again = None if responses is None else [responses[i] for prompt in usable for i in places[prompt.id]]
                made = _annotate_shard(usable, engine, grader, settings, again, sampled, None if alone else continued)
                agreement = None
                if judge is not None:
                    asked = partial(judge.apply, made, {prompt.id: prompt for prompt in usable}, output)
                    made, agreement = by_leader(asked, engine.group_size)
                seen.add(made)
                check_steps(seen, made)
                if leader:
                    if agreement is not None:
                        agreement.write(output / f"judge-{shard:05d}.json")
                    write_step_labels(path, made, usable)
                del made  # one shard is in the memory at a time
            if shard not in before:
                bar.update(sizes[shard])
    wait_for_all()
    sampled, continued = (sum(gather_lists([part] if leader else []), Drawn()) for part in (sampled, continued))
    whole = Annotation(tuple(paths), len(prompts), sampled.num_tokens + continued.num_tokens)
    for path in paths:
        whole.add(read_step_labels(path))
    if is_main():
        counts = count_reasons(output.glob("quarantine-*.jsonl"))
        PutAside("prompts", counts, len(prompts), output).announce()
        _tell_cut_off(continued, engine.max_new_tokens)
    if not whole.any_right:
        explain_failure(len(prompts), whole.num_responses, sampled, continued, engine.max_new_tokens)
    return whole


def _tell_cut_off(continued: Drawn, max_new_tokens: int) -> None:
    """Says how many continuations were cut off, and so count as wrong: loudly where that spoils the labels."""
    if not continued.num_responses:
        return
    share = continued.num_cut_off / continued.num_responses
    _log.log(
        logging.WARNING if share > _MANY_CUT_OFF else logging.INFO,
        "%s of %s continuations were cut off (max_new_tokens is %d) and count as wrong",
        *(f"{continued.num_cut_off:,}", f"{continued.num_responses:,}", max_new_tokens),
    )


def _take_over(output: Path, facts: Mapping[str, Any], earlier: Iterable[Path]) -> None:
    """Copies what is there of the shards of other annotations that depend on the same facts."""
    for folder in earlier:
        manifest = folder / "manifest.json"
        if not manifest.exists() or find_change(read_json(manifest), facts) is not None:
            continue
        for shard in sorted(folder.glob("labels-*.parquet")):
            number = shard.stem.removeprefix("labels-")
            # The labels come last: by them a shard is known to be whole.
            for name in (f"quarantine-{number}.jsonl", f"judge-{number}.json", shard.name):
                if (folder / name).exists() and not (output / shard.name).exists():
                    copy_file(folder / name, output / name)


def _describe_settings(settings: AnnotationSettings) -> dict[str, Any]:
    """The settings that have an effect."""
    described: dict[str, Any] = describe(settings)
    if settings.continuing != "ahead":
        del described["lead"]
    return described


def _annotate_shard(
    prompts: Sequence[Prompt],
    engine: Engine,
    grader: Grader,
    settings: AnnotationSettings,
    again: Sequence[StepLabels] | None,
    sampled: Drawn,
    continued: Drawn | None,
) -> list[StepLabels]:
    """The step labels of some prompts; what is sampled and continued for them is counted. None continues nothing."""
    if again is None:
        groups = draw_responses(
            engine,
            [
                Request(
                    prompt,
                    plan_samples(
                        settings.seed, "annotation/sample", prompt.id, settings.num_samples, settings.temperature
                    ),
                )
                for prompt in prompts
            ],
        )
        labels = by_leader(lambda: _choose_all(prompts, groups, grader, settings), engine.group_size)
        sampled.add([response for group in groups for response in group])
    else:
        # What is known of their answers stays; how likely they are for this policy is unknown.
        labels = [replace(label, logprob=None) for label in again]
    counts: dict[Key, Count] = {}
    if continued is not None:
        chains = [(label.prompt_id, prefixes(label.steps)) for label in labels]
        right = [label.correct for label in labels]
        counts = count_continuations(prompts, chains, right, engine, grader, settings, continued)
    return [_label(label, counts) for label in labels]


def _choose_all(
    prompts: Sequence[Prompt], sampled: Sequence[Sequence[Response]], grader: Grader, settings: AnnotationSettings
) -> list[StepLabels]:
    prepare_whole(grader, prompts, sampled)
    pairs = zip(prompts, sampled, strict=True)
    return [label for prompt, responses in pairs for label in _choose(prompt, responses, grader, settings)]


def _choose(
    prompt: Prompt, responses: Sequence[Response], grader: Grader, settings: AnnotationSettings
) -> Iterator[StepLabels]:
    """The distinct responses of one prompt that are labelled: some right and some wrong ones, where it has both."""
    distinct = {response.text: response for response in reversed(responses) if response.text.strip()}
    ordered = sorted(distinct.values(), key=lambda response: response.sample_index)
    graded = [(response, is_right(prompt, response, grader)) for response in ordered]
    right = [item for item in graded if item[1]][: settings.max_per_side]
    wrong = [item for item in graded if not item[1]][: settings.max_per_side]
    chosen = right + wrong
    if not (right and wrong):
        drawn = derive_seed(settings.seed, "annotation/unmixed", prompt.id) < settings.unmixed_share * 2**63
        chosen = graded[:1] if drawn else []
    for response, correct in chosen:
        yield StepLabels(
            prompt_id=prompt.id,
            response=response.text,
            steps=split_steps(response.text),
            num_correct=(),
            num_total=(),
            correct=correct,
            logprob=None if math.isnan(response.logprob) else response.logprob,
            chain_correct=prompt.chain_correct(response.text),
            finished=response.finished,
        )


def _label(label: StepLabels, counts: Mapping[Key, Count]) -> StepLabels:
    """A response with its labels; its last step's is whether its own answer is right."""
    found = [counts.get((label.prompt_id, prefix), Count()) for prefix in prefixes(label.steps)]
    return replace(
        label,
        num_correct=(*[count.num_correct for count in found], int(label.correct)),
        num_total=(*[count.num_total for count in found], 1),
    )
