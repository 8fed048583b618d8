"""``make demo`` and ``make ablations``: the whole method on the embedded model and data."""
