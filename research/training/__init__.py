"""From a recipe to a trained method: what to train, for how long, and the loop that does it."""
