"""The one error that is the user's to mend, not ours."""


class UserError(Exception):
    """Bad input.

    The message is one line: it names the file or the option, says what is wrong and how to go on.
    Commands print it on stderr and exit with code 2; nothing of an earlier run is touched.
    """
