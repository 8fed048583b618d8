"""mstar: self-evolving training for multimodal reasoning (M-STaR, arXiv 2412.17451)."""

__version__ = "0.1.0"
