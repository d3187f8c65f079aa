"""Arrays in, numbers out: what a classifier claims against what it delivers.

float64 NumPy on the host, no JAX.
"""
