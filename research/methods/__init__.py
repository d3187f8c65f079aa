"""One file per method, found by its name: `research/methods/NAME.py` holds the factory `NAME`.

`NAME(model, tx, ...)` is a method of its own; `NAME(method, ...)` wraps any other. Both return a
`Method`. A factory defines its functions in the order `init`, `step`, `draw`, `apply`, `finish`,
`summary`. Files whose names begin with an underscore are shared by several methods.
"""
