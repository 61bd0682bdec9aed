# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C waits for the block, only for the block, and is never lost."""

import signal

import pytest

from experiments.interrupt import check, held_back, listen
from experiments.progress import bar


@pytest.fixture(autouse=True)
def listening():
    """Listen as the command line does; leave the handler of the test runner behind."""
    before = signal.getsignal(signal.SIGINT)
    listen()
    yield
    listen()  # forgets what came
    signal.signal(signal.SIGINT, before)


def test_the_block_ends_before_the_interrupt():
    done = []

    def write() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]


def test_the_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with held_back():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(OSError, match="disk full"), held_back():
        raise OSError("disk full")
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_dropped_interrupt_is_raised_again():
    """As in a callback of C code, which prints the exception and goes on."""
    check()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        check()
    with bar("steps", 2) as advance, pytest.raises(KeyboardInterrupt):
        advance(1)
    listen()
    check()
