"""Is a method worth its cost? Every method on the same splits, over seeds."""
