"""One file per cause of a wrong certainty: evidence in, verdict out.

`research/diagnosis/diagnose.py` finds the causes by looking through this package.
"""
