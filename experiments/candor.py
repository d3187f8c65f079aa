"""Which experiments are there? The console command `candor`, once `pip install -e .` has made it.

    candor                             lists the experiments
    candor diagnose --data photos/     is launch/run.sh experiments.diagnose --data photos/
    candor weight_uncertainty.report

Any module below `experiments` that can be run is found by its name. Exit codes are those of the
experiment; 2 where there is no such experiment.
"""

import ast
import difflib
import importlib
import sys
from pathlib import Path

from experiments import cli

ROOT = Path(__file__).parent


def experiments() -> dict[str, str]:
    """The first line of each experiment's docstring, by the experiment's name.

    An experiment is a module that ends with `if __name__ == "__main__":`, or a package that has a
    `__main__.py`. The files are read, not imported: the list costs nothing.
    """
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        if 'if __name__ == "__main__":' in source and path != Path(__file__):
            found[name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return found


def usage(names: dict[str, str]) -> str:
    """How the command is used, and the list of the experiments."""
    width = max(map(len, names))
    lines = [f"  {name.ljust(width)}  {line}" for name, line in names.items()]
    return "\n".join(["usage: candor EXPERIMENT [OPTIONS...]", "", *lines])


def main(arguments: list[str] | None = None) -> None:
    """Runs the experiment that the first argument names, with the other arguments.

    Raises:
        SystemExit: 2 where no experiment or an unknown one is named; else that of the experiment.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    names = experiments()
    if arguments[:1] in (["--help"], ["-h"]):
        print(usage(names))
        return
    if not arguments:
        print(usage(names), file=sys.stderr)
        sys.exit(2)
    name = arguments[0].removeprefix("experiments.")
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        print(f"error: {name}: no such experiment.{hint}\n\n{usage(names)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"candor {name}", *arguments[1:]]
    module = importlib.import_module(f"experiments.{name}")
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"experiments.{name}.__main__")
    cli.run(module.main, module.Config)


if __name__ == "__main__":
    main()
