# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of the stream times, and how it says it."""

from experiments import bench_stream
from experiments.bench_stream import Fed
from mixq_jax.data import scan
from mixq_jax.data.frames import FrameFiles


def test_waiting_is_a_part_of_the_time_after_the_first_chunk():
    assert Fed([1.0, 3.0], [0.5, 0.5], first_waited=9.0).fraction == 0.25


def test_frames_are_generated_or_the_first_of_a_folder():
    with bench_stream.files_of(None, 3) as made:
        assert isinstance(made.images, FrameFiles)
        assert len(made.images) == 3
        folder = made.images.samples[0].path.parents[2]
        assert {(s.width, s.height) for s in scan(folder)} == {(640, 360)}
        with bench_stream.files_of(folder / "train", 2) as read:
            assert read.images.samples == made.images.samples[:2]
            assert len(read.boxes) == len(read.weights) == 2
        seconds = bench_stream.source_seconds(made.images.only(slice(1)), 1, 2, count=3)
        assert len(seconds) == 2
        assert min(seconds) > 0


def test_the_table_has_rates_steps_and_waits():
    record = {
        "problem": "some search",
        "cpu": "Some CPU",
        "commit": "abc",
        "load_average": 0.5,
        "source_frames": 200,
        "source_seconds": {"1": [0.5, 1.0, 2.0]},
        "chunk_steps": 5,
        "searches": {
            "memory": {
                "seconds": [1.0, 2.0, 3.0],
                "waited": [0.0, 0.0, 0.0],
                "first_waited": 0.125,
                "waited_fraction": 0.0125,
            }
        },
    }
    lines = bench_stream.table(record).splitlines()
    assert lines[0] == "some search; Some CPU, commit abc"
    assert lines[2].split() == ["source,", "--workers", "1", "3", "200", "100", "400"]
    assert lines[4].split()[:5] == ["memory", "3", "0.4000", "0.2000", "0.6000"]
    assert lines[4].endswith("1.250% (first chunk 0.12 s)")
    assert lines[5] == "load average 0.50 at the start"
