"""Candor's library: what a classifier claims, what it delivers, and the cure.

Imports nothing from experiments/.
"""
