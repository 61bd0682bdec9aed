# SPDX-License-Identifier: Apache-2.0
"""Frames of a C simulation are shared by processes: the same results, errors and no orphans."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.hls import csim


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 5))
def test_shares_are_even_and_in_order(frames, workers, frame_bytes):
    beats = bytes(index % 251 for index in range(frames * frame_bytes))
    shares = csim.split_frames(beats, frames, workers)
    assert b"".join(shares) == beats
    sizes = [len(share) // frame_bytes for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert len(shares) == max(min(workers, frames // 2), 1)
    assert min(sizes) >= min(frames, 2)  # what a frame leaves behind meets a next one


def test_one_process_per_core_by_default(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert csim.split_frames(b"abcdefgh", 8) == [b"ab", b"cde", b"fgh"]
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert csim.split_frames(b"abcdefgh", 8) == [b"abcdefgh"]


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers):
    message = f"^C simulation got workers={workers}; it needs at least 1$"
    with pytest.raises(ValueError, match=message):
        csim.split_frames(b"ab", 2, workers)


def in_folders(tmp_path: Path, count: int) -> list[Path]:
    folders = [tmp_path / str(index) for index in range(count)]
    for folder in folders:
        folder.mkdir()
    return folders


@pytest.fixture
def started(monkeypatch) -> list[subprocess.Popen]:
    """All processes that a test starts."""
    processes = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return processes


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("test ${PWD##*/} = 0 || { echo $PWD is wrong >&2; exit 3; }", "/1 is wrong$"),
        ("test ${PWD##*/} != 1 || exit 4", "^C simulation ended with code 4$"),
        ("test ${PWD##*/} = 0 && exit 5; exec sleep 600", "^C simulation ended with code 5$"),
        ("yes wrong | head -n 90000 >&2; echo end >&2; exit 1", "^wrong\n(wrong\n)+end$"),
    ],
)
def test_the_first_worker_that_fails_speaks(tmp_path, started, script, message):
    with pytest.raises(csim.CsimError, match=message):
        csim.launch(["sh", "-c", script], *in_folders(tmp_path, 3))
    assert len(started) == 3
    assert all(process.returncode is not None for process in started)


def test_an_interrupted_simulation_leaves_no_process(tmp_path, started, monkeypatch):
    def interrupt(process):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        csim.launch(["sleep", "600"], *in_folders(tmp_path, 3))
    assert [process.returncode for process in started] == [-9] * 3
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_processes_that_were_started_end_when_another_cannot(tmp_path, started):
    first, *_ = folders = in_folders(tmp_path, 2)
    with pytest.raises(FileNotFoundError):
        csim.launch(["sleep", "600"], first, tmp_path / "nowhere", *folders)
    assert [process.returncode for process in started] == [-9]
