"""Signals to stop: by Ctrl-C, or by a scheduler that needs the machine."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def stop_signals():
    """Yields a list that holds the signal's number after SIGTERM or SIGINT; a second one kills."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number, frame):
        del frame
        received.append(number)
        restore()

    for number in numbers:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
