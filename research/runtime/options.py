"""The ranges of numeric options, which every command and every group of options checks alike."""

import math
from collections.abc import Iterable

from research.runtime.errors import UserError


def check_ranges(options, above_0: Iterable[str] = (), from_0: Iterable[str] = ()) -> None:
    """Refuses a number that is out of its range; an option that is None has been left open.

    Args:
        options: an object with the options as attributes.
        above_0: the names of options that must be finite and above 0.
        from_0: the names of options that must be finite and not below 0.

    Raises:
        UserError: an option is out of range.
    """
    for name in (*above_0, *from_0):
        value = getattr(options, name)
        if value is None:
            continue
        if name in above_0 and not 0 < value < math.inf:
            raise UserError(name, "give a number above 0", value=value)
        if not 0 <= value < math.inf:
            raise UserError(name, "give 0 or more", value=value)
