"""One file a part of the report; each has a function ``run``."""
