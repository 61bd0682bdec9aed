# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C waits for the block, and only for the block."""

import signal

import pytest

from experiments.interrupt import held_back


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
