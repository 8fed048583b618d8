"""What a run keeps on the disk: its folder's layout, and its JSON and Parquet files, which are whole or not there.

All Parquet files open with ``datasets.load_dataset("parquet", data_files=...)``. Images are named by URI, not copied.
"""

from mstar.storage.examples import ExampleFile, open_examples, order_examples, write_examples
from mstar.storage.responses import PromptResponses, read_responses, write_responses
from mstar.storage.run_directory import RunDirectory, find_in_runs, suggest_export, suggest_run
from mstar.storage.step_labels import (
    make_step_labels,
    open_step_labels,
    read_step_labels,
    tabulate_step_labels,
    write_step_labels,
)
from mstar.storage.tables import ASKED, read_json, read_or_put_aside, write_json

__all__ = [
    "ASKED",
    "ExampleFile",
    "PromptResponses",
    "RunDirectory",
    "find_in_runs",
    "make_step_labels",
    "open_examples",
    "open_step_labels",
    "order_examples",
    "read_json",
    "read_or_put_aside",
    "read_responses",
    "read_step_labels",
    "suggest_export",
    "suggest_run",
    "tabulate_step_labels",
    "write_examples",
    "write_json",
    "write_responses",
    "write_step_labels",
]
