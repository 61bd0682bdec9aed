# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C held back while something is written that must not be cut short."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Finish the block before a Ctrl-C that came meanwhile raises KeyboardInterrupt.

    For the main thread. A checkpoint writer that loses its caller leaves threads that wait for each
    other, and the process then never ends.
    """
    came = []
    previous = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if came:
        raise KeyboardInterrupt
