"""`load(spec)` turns what a person names into three splits of images with labels."""
