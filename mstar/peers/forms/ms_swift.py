"""ms-swift: JSON lines of messages, with the paths of the pictures beside them."""

from __future__ import annotations

from typing import Any, Final

from mstar.peers.forms.base import PeerForm, PeerTable, Row, answered, judged_row, message_row, whole_text
from mstar.peers.pictures import Pictures
from mstar.peers.rows import Kept, LabelledSteps, Pair


def _kept(row: Kept, pictures: Pictures) -> Row:
    *earlier, last = answered(row)
    # Answers that stand in the prompt are not the policy's, and are not trained on.
    told: list[dict[str, Any]] = [
        {**message, "loss": False} if message["role"] == "assistant" else message for message in earlier
    ]
    return message_row([*told, last], row.prompt, pictures)


def _pair(row: Pair, pictures: Pictures) -> Row:
    made = _kept(Kept(row.prompt, row.chosen), pictures)
    return {**made, "rejected_response": whole_text(row.rejected)}


MS_SWIFT: Final = PeerForm(
    {
        Kept: PeerTable("sft.jsonl", _kept),
        Pair: PeerTable("preference.jsonl", _pair),
        LabelledSteps: PeerTable("steps.jsonl", judged_row),
    }
)
