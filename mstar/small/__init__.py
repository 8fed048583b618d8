"""The whole method on a small pretrained language model (SmolLM2-135M-Instruct) that is given eyes for one task."""
