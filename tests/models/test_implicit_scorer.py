"""The implicit scorer: what its logits are."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import log_softmax

from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.implicit_scorer import ImplicitScorer, step_logprobs
from mstar.models.response_scorer import SharedInputs
from mstar.prompts import TinyDice

PROMPTS = list(TinyDice("annotation", 8))


def test_the_logit_is_beta_times_the_log_ratio_of_a_steps_tokens() -> None:
    model, reference = (load_model(EMBEDDED_MODEL, seed=seed) for seed in (0, 1))
    renderer = load_renderer(EMBEDDED_MODEL, model)
    texts = ["red = 4\nAnswer: 9", "x"]
    batch = renderer.response_inputs(PROMPTS[:2], texts)
    shared = SharedInputs.render(renderer, PROMPTS[:2], [0, 1], texts)
    with torch.no_grad():
        found = ImplicitScorer(model, reference, 0.5)(batch)
        same = ImplicitScorer(model, reference, 0.5)(shared)
        torch.testing.assert_close(found.logits_N, same.logits_N, atol=1e-4, rtol=1e-4)
        assert found.row_N.tolist() == [0, 0, 1]
        totals = []
        for policy in (model, reference):
            ids_BT, labels_BT = batch.inputs.ids_BT, batch.labels_BT
            logits = policy(input_ids=ids_BT, attention_mask=batch.inputs.mask_BT, **batch.inputs.extras).logits
            logprob_BT = log_softmax(logits[:, :-1], -1).gather(2, labels_BT[:, 1:].clamp(min=0)[..., None])[..., 0]
            totals.append((logprob_BT * (labels_BT[:, 1:] >= 0)).sum(1))
        whole_B = 0.5 * (totals[0] - totals[1])
        assert found.logits_N[:2].sum().item() == pytest.approx(whole_B[0].item(), abs=1e-4)
        assert found.logits_N[2].item() == pytest.approx(whole_B[1].item(), abs=1e-4)
        assert not ImplicitScorer(model, model, 0.5)(batch).logits_N.any()
        # Of a response that was cut off, no end token was drawn.
        ids, last = batch.inputs.ids_BT[1], int((batch.labels_BT[1] >= 0).nonzero()[-1])
        pictures = renderer.prompt_inputs(PROMPTS[1:2]).extras
        logits = reference(input_ids=ids[None, : last + 1], **pictures).logits[0]
        without = totals[1][1] - log_softmax(logits[last - 1], -1)[ids[last]]
        for inputs in (batch, shared):
            cut = step_logprobs(reference, inputs, [True, False]).logits_N
            torch.testing.assert_close(cut[:2].sum(), totals[1][0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(cut[2], without, atol=1e-4, rtol=1e-4)
