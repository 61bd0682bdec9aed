# SPDX-License-Identifier: Apache-2.0
"""How worker processes are started: never forked, and deaf to Ctrl-C, which is for their parent."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

SPAWN = multiprocessing.get_context("spawn")  # a process with running threads (JAX's) must not fork


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Hold Ctrl-C back; processes started meanwhile never see it and leave it to this one."""
    resource_tracker.ensure_running()  # its start would let Ctrl-C through again
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
