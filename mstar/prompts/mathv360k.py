"""MathV360K: 360K questions about 40K pictures of 24 data sets, and the paper's splits of them.

The data is laid out as its authors publish it (Zhiqiang007/MathV360K, with data_images.zip unpacked):

    <root>/train_samples_all_tuning.json
    <root>/data_images/<Source>/images/<file>

Its card states no licence; the 24 source data sets keep their own terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mstar.atomic import write_text
from mstar.errors import ConfigError, DataError, require_least
from mstar.prompts.chats import read_turns
from mstar.prompts.field_values import read_images
from mstar.prompts.image_check import ImageCheck
from mstar.prompts.images import PixelLimits
from mstar.prompts.mathvista_text import parse_answer, parse_question
from mstar.prompts.prompt_table import PromptRecord, PromptTable, build_table, cache_folder, content_id, hash_id
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.question_text import infer_answer_type, render_choices
from mstar.prompts.row_files import json_rows
from mstar.prompts.table_prompts import TablePrompts, TableSettings, open_table
from mstar.types import Prompt

Split = Literal["labelled", "unlabelled", "test", "validation", "all"]

_FILE: Final = "train_samples_all_tuning.json"
_IMAGES: Final = "data_images"
_SPLITS: Final = ("labelled", "unlabelled", "test", "validation")
_NUM_TEST: Final = 750
_NUM_VALIDATION: Final = 250


class MathV360K(TablePrompts):
    """MathV360K with the paper's splits (M-STaR: data and settings).

    A seeded half of the questions is labelled. Of the other, hidden half 750 questions are the in-domain test, 250 the
    validation (each at most a quarter of it, in a small copy of the data), and the rest is unlabelled. The splits
    follow from the questions and the seed alone, not from their order. Rows that ask the same about the same picture
    are one prompt; if their answers differ, it is left out.

    Args:
        root: The folder that holds train_samples_all_tuning.json and data_images.
        split: labelled, unlabelled, test, validation, or all.
        seed: Seed of the splits.
        sources: Use only these of the 24 sources, by the name of their folder; none uses all.
        size: Use only this many prompts of the split, chosen by the seed; none uses all.
        hide_answers: Whether the unlabelled split comes without its answers. Only rollout.unlabelled oracle needs them.
        splits: Folder that the splits' lists of ids (labelled.txt, ...) are written to; other lists there are an error.
            Lists of your own are for PromptPart.
        instruction: A line that is added to every question, e.g. how the answer should be written.
        pixels: Least and most pixels of a picture, in generation and training alike.
        check_images: none; exists (the files are there and look whole); or decode (each is decoded, slow).
        max_bad_share: If more than this share of the rows cannot be used, it is an error; none allows 5 %, and of a
            small data set up to 10 rows, but not more than a quarter.
        quarantine: The file that rows which cannot be used are written to, with the reason; none puts it in the cache.

    Raises:
        ConfigError: a setting is out of its range, or a source is unknown.
        DataError: the data cannot be read, too many of its rows cannot be used, or lists of other splits are there.
    """

    def __init__(
        self,
        root: str,
        split: Split = "labelled",
        seed: int = 0,
        sources: list[str] | None = None,
        size: int | None = None,
        hide_answers: bool = True,
        splits: str | None = None,
        instruction: str = "",
        pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
        check_images: ImageCheck = "exists",
        max_bad_share: float | None = None,
        quarantine: str | None = None,
    ) -> None:
        require_least("MathV360K: ", size=size)
        path = Path(root, _FILE)
        if not path.is_file():
            raise DataError(f"MathV360K: '{path}' does not exist; give the folder that holds {_FILE} and {_IMAGES}.")
        settings = TableSettings(str(Path(root, _IMAGES)), check_images, max_bad_share, quarantine, pixels, instruction)
        rows = json_rows(path)
        folder = cache_folder("mathv360k", rows.fingerprint)
        build_table(folder, rows, convert_row)
        checked = open_table(folder, "MathV360K", settings)
        members = _deal(checked.table, seed)
        if splits is not None:
            _write_lists(Path(splits), checked.table, members)
        chosen = np.concatenate([members[name] for name in _SPLITS]) if split == "all" else members[split]
        chosen = chosen[checked.usable[chosen]]
        if sources is not None:
            chosen = chosen[_of_sources(checked.table, sources)[chosen]]
        if len(chosen) == 0:
            raise DataError(f"MathV360K: the split '{split}' has no prompts; choose other sources, or get more data.")
        super().__init__(checked, np.sort(chosen[:size]), hide_answers and split == "unlabelled")


def convert_row(values: Mapping[str, Any]) -> PromptRecord:
    """Makes a prompt of a row of train_samples_all_tuning.json.

    Raises:
        RowError: the row cannot be used.
    """
    turns = dict(reversed(read_turns(values.get("conversations"))))
    asked, said = turns.get("human", ""), turns.get("gpt", "")
    images: list[str] = []
    for item in read_images(values, ["image"]):
        if isinstance(item, bytes):
            raise RowError(Reason.WRONG_TYPE, "the column 'image' holds a picture, not a path")
        images.append(item.removeprefix("./").removeprefix(f"{_IMAGES}/"))
    if not images:
        raise RowError(Reason.MISSING_IMAGE, "the column 'image' names no picture")
    text, choices = parse_question(asked)
    if not text:
        raise RowError(Reason.EMPTY_QUESTION, "the question is empty")
    answer = parse_answer(said, choices)
    if not answer:
        raise RowError(Reason.NO_ANSWER, "the model's turn has no answer")
    # The whole first component: the folder "VQA" would not be "VQA-AS".
    source = images[0].partition("/")[0]
    question = render_choices(text, choices)
    prompt = Prompt(
        id="",
        question=question,
        answer=answer,
        answer_type=infer_answer_type(answer, choices),
        choices=choices,
        category=source,
    )
    return PromptRecord(prompt, f"{source}-{content_id(question, *images)}", tuple(images))


def _deal(table: PromptTable, seed: int) -> Mapping[str, NDArray[np.int64]]:
    """For every split its rows of the table, in the order in which they were dealt."""
    keys = [hash_id(prompt_id, f"{seed}/") for prompt_id in table.column("id").to_pylist()]
    labelled = len(keys) - len(keys) // 2
    most = (len(keys) - labelled) // 4
    test = labelled + min(_NUM_TEST, most)
    order = np.argsort(np.array(keys, dtype=np.uint64)).astype(np.int64)
    dealt = np.split(order, [labelled, test, test + min(_NUM_VALIDATION, most)])
    return dict(zip(("labelled", "test", "validation", "unlabelled"), dealt, strict=True))


def _write_lists(folder: Path, table: PromptTable, members: Mapping[str, NDArray[np.int64]]) -> None:
    """Writes the ids of the splits, one file a split and one id a line.

    Raises:
        DataError: there is another list.
    """
    ids = table.column("id").to_pylist()
    for name, rows in members.items():
        path, text = folder / f"{name}.txt", "".join(f"{ids[row]}\n" for row in rows)
        if not path.is_file():
            write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            raise DataError(
                f"'{path}' lists other prompts than this data and seed give: name another folder in 'splits', or "
                f"delete '{folder}'. For lists of your own take mstar.prompts.PromptPart, with 'ids', of split all."
            )


def _of_sources(table: PromptTable, sources: Sequence[str]) -> NDArray[np.bool_]:
    column = table.column("category")
    known = sorted(pc.unique(column).to_pylist())
    unknown = [name for name in sources if name not in known]
    if unknown:
        raise ConfigError(f"MathV360K: there are no sources {unknown}; the data has {known}.")
    wanted: NDArray[np.bool_] = pc.is_in(column, pa.array(list(sources), pa.string())).to_numpy()
    return wanted
