"""``python -m mstar export-data``: a run's rows in the forms that other trainers read."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final

from mstar.atomic import writing
from mstar.errors import ConfigError, DataError, counted
from mstar.export.card import CARD, write_data_card
from mstar.export.folder import exporting
from mstar.export.hub_upload import check_upload, upload
from mstar.peers.forms import FORMS, PeerName
from mstar.peers.pictures import Pictures
from mstar.peers.reading import find_run_files
from mstar.peers.run_prompts import RunPrompts
from mstar.peers.writing import Written, write_rows
from mstar.prompts import PromptSource

_log: Final = logging.getLogger(__name__)
# Reasons for which rows were left out that are told one by one.
_TOLD: Final = 3
# Forms with the pictures in the rows.
_PORTABLE: Final = ("trl", "verl")


def export_data(
    run: str,
    to: PeerName,
    output: str,
    iteration: int | None = None,
    prompts: PromptSource | None = None,
    push: str | None = None,
    private: bool = False,
) -> None:
    """Writes a run's kept, rejected and step-labelled rows in the form that another trainer reads.

    The folder has a card (``README.md``) with its files and what the run's own configuration says of the prompts.

    Args:
        run: The folder of a self-evolving run, of an annotation, or of a staged run with both (``runs/demo``).
        to: Whose form: trl (Parquet: sft, preference, stepwise), ms-swift, llama-factory, mpo (JSON lines: sft,
            preference, steps; mpo is that of InternVL's MPO and VisualPRM) or verl (Parquet: sft, rl).
        output: The folder to write: a new or an empty one.
        iteration: Only what this iteration has; none takes all of them, and what was kept twice once.
        prompts: Where the run's prompts are; none is where its own configuration says. The run's files have questions
            alone, so pictures and earlier turns come from there.
        push: Where the folder is uploaded to on the Hugging Face hub, as ``USER/NAME``, with the login that
            ``hf auth login`` or ``HF_TOKEN`` gives: of trl and verl, which have their pictures in the rows.
        private: Make a new one on the hub private.

    Raises:
        ConfigError: the folder holds something already, the iteration is not there, or the run's configuration does
            not say where its prompts are; or the form cannot be pushed, or no login may write to the hub.
        DataError: the run has no such rows, a file of it is damaged, or a prompt is not found or is another by now.
        StorageError: the folder cannot be written, or the hub cannot be reached.
    """
    folder = Path(output)
    check_upload(push, private)
    if push is not None and to not in _PORTABLE:
        raise ConfigError(
            f"--push is for {' and '.join(_PORTABLE)}: {to} names pictures by their paths on this machine, which "
            "nobody else has."
        )
    _require_empty(folder)
    files = find_run_files(Path(run), iteration)
    with exporting(folder) as unfinished:
        unfinished.mkdir()
        written = write_rows(
            files.rows(None if prompts is None else RunPrompts([prompts])),
            FORMS[to],
            Pictures(unfinished, folder, files.have_pictures()),
        )
        _tell_left_out(written)
        if not written.files:
            raise DataError(f"{run} has no row for {to}: nothing was kept in it, or all of it was left out.")
        command = f"mstar export-data --run {Path(run).absolute().name} --to {to} --output {folder.absolute().name}"
        if iteration is not None:
            command += f" --iteration {iteration}"
        card = write_data_card(push or folder.absolute().name, to, written.files, Path(run), command)
        (unfinished / CARD).write_text(card, encoding="utf-8")
        _require_empty(folder)
    for name, count in written.files.items():
        sys.stdout.write(f"{folder / name}: {counted(count, 'row')}\n")
    if push is not None:
        sys.stdout.write(f"{upload(folder, push, private=private, repo_type='dataset')}\n")


def _require_empty(folder: Path) -> None:
    with writing(folder):
        held = folder.is_dir() and next((p.name for p in folder.iterdir() if p.name != ".unfinished"), None)
    if held:
        raise ConfigError(f"'{folder}' holds something already ({held}), and nothing is replaced: give a new folder.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"'{folder}' is not a folder, and an export is one: give another name.")


def _tell_left_out(written: Written) -> None:
    for reason, count in written.left_out.most_common(_TOLD):
        _log.warning("%d rows are left out: %s", count, reason)
    rest = written.left_out.total() - sum(count for _, count in written.left_out.most_common(_TOLD))
    if rest:
        _log.warning("%d more rows are left out for other reasons, most often pictures that are missing", rest)
