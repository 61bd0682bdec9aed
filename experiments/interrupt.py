# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C: never lost, and held back while something is done that must not be cut short."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

_CAME = Event()  # a signal belongs to the process, and so does this


def listen() -> None:
    """Let Ctrl-C raise KeyboardInterrupt and be remembered. For the main thread."""
    _CAME.clear()
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(*_) -> None:
    _CAME.set()
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C came: one raised inside a callback of C code is dropped."""
    if _CAME.is_set():
        raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """Finish the block before a Ctrl-C that came meanwhile raises KeyboardInterrupt.

    For the main thread. A checkpoint writer that loses its caller leaves threads that wait for each
    other, and the process then never ends.
    """
    previous = signal.signal(signal.SIGINT, lambda *_: _CAME.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    check()
