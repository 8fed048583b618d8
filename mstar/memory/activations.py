"""What a forward pass keeps for the backward pass, and what it takes while it computes, by a model's shape.

The tensors were counted with PyTorch's hooks for saved tensors, on layers of Llama, Qwen2, Qwen2.5-VL and Qwen3-VL and
on the vision towers of Idefics3, InternVL and Qwen2.5-VL; ``tests/memory/test_activations.py`` counts again.
"""

from __future__ import annotations

from dataclasses import dataclass

from mstar.memory.shape import ModelShape, Tower

_FLOAT: int = 4


@dataclass(frozen=True)
class Types:
    """Bytes of the numbers.

    Attributes:
        weights: Of a stored weight.
        mixed: Whether autocast is on, which matters with 16-bit weights too: adapters have float32 ones.
    """

    weights: int
    compute: int
    mixed: bool = False

    @property
    def autocast(self) -> bool:
        """Whether weights are cast for every product."""
        return self.compute < self.weights


def kept_by_layer(
    tower: Tower, types: Types, tokens: int, *, behind: int = 0, masked: int = 0, adapted: int = 0, whole: bool = True
) -> int:
    """Bytes that one layer keeps for the backward pass.

    Args:
        tokens: Tokens that go through the layer, padding included.
        behind: Tokens of keys and values before them (a shared prompt), of all rows together.
        masked: Width of an attention mask with a value for every pair of tokens; 0 where the kernel needs none.
        adapted: Inputs of layers with adapters, in entries a token; 0 without LoRA.
        whole: Whether the weights themselves are trained: a frozen one needs no input for its gradient.
    """
    hidden, queries, keys, inner = tower.hidden, tower.queries, tower.keys, tower.inner
    c = types.compute
    # Normalisation computes in float32: it keeps its input, and the normalised values if its weights are trained.
    norm = _FLOAT if types.autocast or types.weights == _FLOAT else _FLOAT + types.weights
    kept = 2 * hidden * norm
    if whole and not tower.layer_norm:
        kept += 2 * hidden * (_FLOAT if types.autocast else types.weights)
    # Queries, keys and values as the kernel reads them, keys and values once for every head, and what it returns.
    kept += 4 * queries * c + tower.heads * _FLOAT
    products = 2 if tower.gated else 1  # in the perceptron, before its last matrix
    if whole:
        # The inputs of the matrices; autocast casts anew for each of them.
        inputs = 3 + products if types.autocast else 2
        kept += inputs * hidden * c + inner * c
    elif adapted:
        if types.weights == _FLOAT and not types.autocast:
            kept += 2 * hidden * c + inner * c  # the adapters' inputs are those of the matrices
        else:
            # Each adapter has a float32 weight, for which it casts its input, which autocast casts back.
            kept += adapted * (c if types.mixed or types.autocast else _FLOAT)
    # What the activation function reads and gives, and the other half.
    kept += (3 if tower.gated else 1) * inner * c
    if tower.head_norms:
        kept += (queries + keys) * (norm + (c if whole else 0))
    kept += tower.extra * hidden * c
    kept += masked * c
    return tokens * kept + behind * 2 * queries * c


def layer_peak(tower: Tower, types: Types, tokens: int, *, masked: int = 0) -> int:
    """Bytes that a layer takes while it computes without keeping anything: the perceptron, or attention."""
    perceptron = (3 if tower.gated else 2) * tower.inner * types.compute
    attention = (4 * tower.queries + 2 * tower.keys) * types.compute + masked * types.compute
    return tokens * (max(perceptron, attention) + 3 * tower.hidden * _FLOAT)


def kept_logits(shape: ModelShape, types: Types, tokens: int, *, budget: int | None, fused: bool = False) -> int:
    """Bytes of the logits of a loss, at their peak: log-probabilities and two gradients.

    Args:
        tokens: Response tokens of the batch.
        budget: Most logits that exist at the same time; None for all.
        fused: A kernel that never makes them (Liger): a few rows at a time.
    """
    if fused:
        rows = min(tokens, max(1, 2**26 // shape.vocabulary))
        return rows * shape.vocabulary * (_FLOAT + types.compute)
    rows = tokens if budget is None else min(tokens, max(1, budget // shape.vocabulary))
    return rows * shape.vocabulary * (3 * _FLOAT + (types.compute if types.compute < _FLOAT else 0))


def logits_peak(shape: ModelShape, types: Types, tokens: int, *, budget: int) -> int:
    """Bytes of the logits of so many tokens, and of their log-probabilities, without gradients."""
    rows = min(tokens, max(1, budget // shape.vocabulary))
    return rows * shape.vocabulary * (2 * _FLOAT + (types.compute if types.compute < _FLOAT else 0))
