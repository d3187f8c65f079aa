"""One file per cause of a wrong certainty: evidence in, verdict out (`research/diagnose.py`)."""
