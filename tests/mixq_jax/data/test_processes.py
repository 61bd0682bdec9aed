# SPDX-License-Identifier: Apache-2.0
import signal
from concurrent.futures import ProcessPoolExecutor

from mixq_jax.data.processes import SPAWN, interrupts_blocked


def test_processes_never_see_an_interrupt():
    """Not even in their first moments: one that does prints a traceback of its own."""
    with ProcessPoolExecutor(1, SPAWN) as pool:
        with interrupts_blocked():
            blocked = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ())
        assert signal.SIGINT in blocked.result()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
