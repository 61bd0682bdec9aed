# SPDX-License-Identifier: Apache-2.0
"""The speed benchmark without its sides: statistics, the pipe protocol, the shared problem."""

import io
import json
import sys
from dataclasses import asdict

import numpy as np
import pytest

from experiments import bench
from experiments import bench_search_step as steps
from experiments.bench_problem import BITS, ULTRANET, bit_product_table, problem
from experiments.bench_search_step import Turn
from experiments.bench_worker import (
    CHECK_STEPS,
    Burst,
    Ready,
    Side,
    WorkerError,
    request,
    serve,
    worker,
)

FAKE_WORKER = """
import sys
from experiments.bench_worker import Side, worker_main
losses = iter(range(10**6))
def step():
    print("noise of a library")
    loss = float(next(losses))
    if loss == {dies_at}: raise RuntimeError("step {dies_at} failed")
    with open({log!r}, "a") as log: log.write({name!r})
    return loss
worker_main(lambda threads: Side({{"fake": "1"}}, threads, step), "fake")
"""


def fake_command(tmp_path, name="a", dies_at=-1):
    code = FAKE_WORKER.format(log=str(tmp_path / "log"), name=name, dies_at=dies_at)
    return [sys.executable, "-c", code, "--serve", "--threads", "1"]


def turns(product, baseline, others=0.0):
    """One round for each pair of step-time lists."""
    pairs = zip(product, baseline, strict=True)
    names = ("mixq_jax", "torch")
    return [Turn(n, t, 1.0, others) for pair in pairs for n, t in zip(names, pair, strict=True)]


def test_summary_of_known_times():
    summary = steps.summarize([3.0, 1.0, 2.0, 10.0])
    assert asdict(summary) == {
        "n": 4,
        "median": 2.5,
        "mean": 4.0,
        "std": pytest.approx(np.std([3, 1, 2, 10], ddof=1)),
        "min": 1.0,
        "max": 10.0,
    }


def test_ratio_is_baseline_over_product_and_resists_outliers():
    run = turns([[1.0, 1.0, 9.0], [1.0, 1.0, 1.0]], [[2.0, 2.0, 2.0], [3.0, 3.0, 2.0]])
    assert steps.times_of(run, "mixq_jax") == [1.0, 1.0, 9.0, 1.0, 1.0, 1.0]
    assert steps.median_ratio(run) == 2.0
    assert steps.round_ratios(run) == [2.0, 3.0]


def test_busy_turns_are_named():
    run = turns([[1.0]], [[1.0]], others=0.5)
    assert steps.warnings_of(turns([[1.0]], [[1.0]], others=0.05)) == []
    assert steps.warnings_of(run)[1] == (
        "round 1, torch: other work took 0.50 CPUs (allowed 0.1); repeat on an idle machine"
    )


def test_busy_seconds_counts_all_but_idle_time_of_the_named_cpus():
    stat = (
        "cpu  9 9 9 9 9 9 9 9 9 9\n"
        "cpu0 100 20 30 7777 8888 4 5 6 50 0\n"
        "cpu1 1000 0 0 0 0 0 0 0 0 0\n"
        "cpu10 5000 0 0 0 0 0 0 0 0 0\n"
        "intr 1 0\n"
    )
    assert steps.busy_seconds(stat, [0], 100) == 1.65
    assert steps.busy_seconds(stat, [0, 1], 100) == 11.65


def test_equal_mathematics_passes_and_other_mathematics_is_refused():
    steps.check_same_mathematics([7.0, 6.01, 5.02], [7.0, 6.0, 5.0])
    with pytest.raises(WorkerError, match=r"loss of step 2: mixq_jax 6\.100000, torch 6\.000000"):
        steps.check_same_mathematics([7.0, 6.1, 5.0], [7.0, 6.0, 5.0])
    with pytest.raises(WorkerError, match="step 1"):
        steps.check_same_mathematics([float("nan")] * 3, [7.0, 6.0, 5.0])


def test_loss_tolerances_cover_the_check_steps():
    assert len(steps.LOSS_TOLERANCE) == CHECK_STEPS


def test_serve_answers_each_request_with_that_many_times():
    losses = iter(range(100))
    replies = io.StringIO()
    side = Side({"fake": "1"}, 2, lambda: float(next(losses)))
    serve(side, [0, 1], io.StringIO('{"steps": 2}\n{"steps": 5}\n'), replies)
    ready, *bursts = map(json.loads, replies.getvalue().splitlines())
    assert Ready(**ready) == Ready({"fake": "1"}, 2, [0, 1], [0.0, 1.0, 2.0])
    assert [len(Burst(**burst).seconds) for burst in bursts] == [2, 5]
    assert next(losses) == CHECK_STEPS + (1 + 2) + (1 + 5)  # one untimed step a burst


def test_workers_take_turns_and_stay_alive(tmp_path):
    progress = []
    with (
        worker("mixq_jax", fake_command(tmp_path, "a")) as first,
        worker("torch", fake_command(tmp_path, "b")) as second,
    ):
        assert first.ready.losses == [0.0, 1.0, 2.0]
        assert len(first.ready.cpus) == first.ready.threads == 1
        (tmp_path / "log").write_text("")
        run = steps.interleave([first, second], 2, 3, progress.append)
        record = steps.record_of([first, second], run) | bench.machine()
    assert (tmp_path / "log").read_text() == ("a" * 4 + "b" * 4) * 2
    assert [turn.side for turn in run] == ["mixq_jax", "torch"] * 2
    assert len(progress) == 4
    assert record["sides"]["torch"]["n"] == 6
    assert record["ratio_of_medians"] == steps.median_ratio(run)
    assert json.loads(json.dumps(record)) == record
    text = steps.table(record)
    assert f"ratio of medians: {record['ratio_of_medians']:.3f}" in text
    assert "fake 1" in text
    assert first.pipe.process.poll() is not None


@pytest.mark.parametrize("dies_at", [0, CHECK_STEPS + 1])
def test_a_dying_worker_is_named_with_its_last_words(tmp_path, dies_at):
    with (
        pytest.raises(
            WorkerError,
            match=rf"(?s)^torch side ended with code 1 .*\): RuntimeError: step {dies_at} failed$",
        ),
        worker("torch", fake_command(tmp_path, dies_at=dies_at)) as side,
    ):
        request(side, 4)


def test_a_dead_worker_is_named_before_it_is_asked(tmp_path):
    with worker("torch", fake_command(tmp_path)) as side:
        side.pipe.process.kill()
        side.pipe.process.wait()
        with pytest.raises(WorkerError, match="torch side ended with code -9"):
            request(side, 1)


def test_a_missing_interpreter_is_named():
    with (
        pytest.raises(WorkerError, match=r"torch side: cannot run '/no/python': No such file"),
        worker("torch", ["/no/python"]),
    ):
        pass


def test_problem_is_reproducible_and_in_range():
    first, second = problem(batch=2, height=32, width=64), problem(batch=2, height=32, width=64)
    assert np.array_equal(first.images, second.images)
    assert not np.array_equal(first.images, problem(1, 2, 32, 64).images)
    pixels = first.images * 256
    assert np.array_equal(pixels, np.floor(pixels))
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    centre, size = first.boxes[:, :2], first.boxes[:, 2:]
    assert np.all(centre - size / 2 > 0)
    assert np.all(centre + size / 2 < 1)
    assert {array.dtype for array in (first.images, first.boxes, *first.kernels)} == {
        np.dtype("float32")
    }


def test_problem_is_ultranet():
    assert sum(kernel.size for kernel in problem(batch=1).kernels) == 210_096  # published count
    macs = bit_product_table(160, 320)[:, 0, 0] / BITS[0] ** 2 * 22.1184e6
    assert macs.sum() / 1e6 == pytest.approx(199.53, abs=0.01)
    assert [conv.pool for conv in ULTRANET] == [True] * 4 + [False] * 5


def test_problem_refuses_sizes_off_the_grid():
    with pytest.raises(ValueError, match="image 40x64: both sides must be multiples of 16"):
        problem(height=40, width=64)
