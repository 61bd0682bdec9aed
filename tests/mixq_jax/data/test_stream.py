# SPDX-License-Identifier: Apache-2.0
"""Frames come in the order asked for, whoever decodes them; workers fail loudly and never stay."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mixq_jax.data import DataError, load
from mixq_jax.data.frames import FrameFiles
from mixq_jax.data.stream import FRAMES_PER_REQUEST, _decoded, _worker, streamed

ROOT = Path(__file__).resolve().parents[3]
COUNT = 20
ENDS_SECONDS = 30  # far above what a process needs to end


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Frames of noise, no two alike."""
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    for k in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(folder / f"{k}.jpg")
        (folder / f"{k}.xml").write_text(
            "<annotation><size><width>8</width><height>6</height></size><object><name>a</name>"
            "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>4</ymax></bndbox></object>"
            "</annotation>"
        )
    return folder


@pytest.fixture(scope="module")
def files(folder) -> FrameFiles:
    return load(folder, 4, 5, limit_bytes=0).images


@pytest.fixture(scope="module")
def decoded(folder) -> np.ndarray:
    return load(folder, 4, 5).images


def test_rows_come_in_the_order_asked_for(files, decoded):
    with ExitStack() as stack:
        team = [stack.enter_context(_worker()) for _ in range(2)]

        @given(st.lists(st.integers(0, COUNT - 1), max_size=5 * FRAMES_PER_REQUEST))
        def check(rows):
            rows = np.array(rows, np.int32)
            assert np.array_equal(_decoded(team, files, rows), decoded[rows])

        check()


def handed(images, rows):
    return rows.tolist(), images


def test_orders_are_served_one_ahead_and_no_more(files, decoded):
    orders, made = np.random.default_rng(1).integers(0, COUNT, (6, 9)), []

    def hand_over(images, rows):
        made.append(rows)
        return images

    with streamed(files, orders, 1, hand_over) as stream:
        for used, images in enumerate(stream):
            assert np.array_equal(images, decoded[orders[used]])
            assert used + 1 <= len(made) <= used + 2
    assert np.array_equal(made, orders)
    assert multiprocessing.active_children() == []


def damaged(files: FrameFiles, row: int) -> FrameFiles:
    wrong = replace(files.samples[row], height=7)
    samples = (*files.samples[:row], wrong, *files.samples[row + 1 :])
    return FrameFiles(samples, files.height, files.width)


def test_a_frame_that_cannot_be_read_is_the_same_error_as_in_this_process(files):
    wrong = damaged(files, 13)
    with pytest.raises(DataError, match=r"^.*13\.xml: size says 8x7 but 13\.jpg is 8x6; ") as here:
        wrong[np.array([13])]
    orders = [np.arange(5), np.arange(COUNT), np.arange(5)]
    seen = []
    with (
        pytest.raises(DataError, match=f"^{re.escape(str(here.value))}$"),
        streamed(wrong, orders, 2, handed) as stream,
    ):
        seen.extend(rows for rows, _ in stream)
    assert seen == [list(range(5))]
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed_is_an_error_and_no_wait(files):
    message = (
        r"^a process that decodes frames was killed by SIGKILL, as by a system that is out of "
        r"memory; free memory or ask for fewer workers$"
    )

    def kill_one() -> None:
        with streamed(files, [np.arange(COUNT)] * 50, 2, handed) as stream:
            next(stream)
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            for _ in stream:
                pass

    with pytest.raises(DataError, match=message):
        kill_one()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, FloatingPointError])
def test_workers_end_when_the_consumer_stops(files, error):
    pids = []

    def stop() -> None:
        with streamed(files, [np.arange(COUNT)] * 50, 1, handed) as stream:
            next(stream)
            pids.extend(child.pid for child in multiprocessing.active_children())
            raise error

    with pytest.raises(error):
        stop()
    assert len(pids) == 1
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_import_no_jax_and_end_when_their_parent_is_killed(folder):
    program = f"""
        import multiprocessing, os, sys
        import numpy as np
        from mixq_jax.data import load
        from mixq_jax.data.stream import streamed
        files = load({str(folder)!r}, 4, 5, limit_bytes=0).images
        with streamed(files, [np.arange(3)] * 3, 2, lambda images, rows: rows) as stream:
            next(stream)
            pids = [child.pid for child in multiprocessing.active_children()]
            print("jax" in sys.modules, *pids, flush=True)
            os.kill(os.getpid(), 9)
    """
    # The workers hold the pipe of standard error: reading it to its end waits for theirs.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=ENDS_SECONDS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    imported, *pids = done.stdout.split()
    assert (imported, len(pids)) == ("False", 2)
    assert done.stderr == ""
