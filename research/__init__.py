"""Candor's library: what a classifier claims, what it delivers, why, and the cure. Imports nothing from experiments/."""
