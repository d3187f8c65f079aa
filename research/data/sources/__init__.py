"""One file per kind of data source, found by `research/data/load.py`.

A source is a file with `matches(spec)` and `open_source(spec, data_dir)`.
"""
