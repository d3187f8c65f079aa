"""Keras files: read as data, converted to Flax, imported with a proof of parity."""
