"""Networks in Flax, and weights from other people's files."""
