# SPDX-License-Identifier: Apache-2.0
"""Stages that learn, around a step that only counts: records, checkpoints, resume, results."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluation, learning
from experiments.detection_options import DetectionOptions
from experiments.run_context import Run, bit_strings
from experiments.run_folder import append_lines, write_json
from hw.resources import RESOURCES, cost_table
from mixq_jax import checkpoint, evaluate, export, finetune, loop, search
from mixq_jax.bits import WIDTHS, Alphas, FixedBits, FloatBits
from mixq_jax.checkpoint import Card, CheckpointError
from mixq_jax.data import SyntheticConfig, generate
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.frames import FrameFiles
from mixq_jax.evaluate import Detections
from mixq_jax.loop import TrainState
from mixq_jax.model import uniform_bits

BITS = {"wbits": "444444444", "abits": "844444444"}
GIVEN = FixedBits((4,) * 9, (8, *(4,) * 8))


def run_of(out: Path = Path("out"), **given) -> Run:
    options = DetectionOptions(**{"preset": "smoke", "out": out, **given})
    return Run(options, options.resolved())


def dataset(frames: int, seed: int = 0) -> Dataset:
    """Frames of the smoke preset's size with random content."""
    rng = np.random.default_rng(seed)
    return Dataset(
        rng.integers(0, 256, (frames, 48, 96, 3), np.uint8),
        rng.uniform(0.2, 0.4, (frames, 4)).astype(np.float32),
        rng.uniform(0.5, 1.5, frames).astype(np.float32),
        tuple(f"frame{index}.jpg" for index in range(frames)),
    )


def tiny_state(value: float = 0.0, step: int = 0) -> TrainState:
    """A state of one weight and one statistic."""
    net = {"conv0_kernel": jnp.full((1,), value)}
    return TrainState({"net": net}, {"mean": jnp.full((1,), -value)}, {}, jnp.int32(step))


def counting_step(state: TrainState, batch, hyper):
    """A step that adds 1 to the weight and reports what it was."""
    weight = state.params["net"]["conv0_kernel"]
    params = {"net": {"conv0_kernel": weight + 1}}
    metrics = finetune.TrainMetrics(
        weight[0], {"box": 2 * weight[0], "objectness": batch.weights.sum()}
    )
    return TrainState(params, state.batch_stats, state.opt_state, state.step + 1), metrics


def weight_of(state: TrainState) -> float:
    return float(state.params["net"]["conv0_kernel"][0])


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_records(folder: Path, steps: int) -> None:
    append_lines(folder / "metrics.jsonl", [{"step": step} for step in range(steps)])
    append_lines(folder / "score.jsonl", [{"step": step} for step in range(2, steps + 1, 2)])


CARD = Card("train", "network", "config", "bits", 0)


@pytest.mark.parametrize("saved", [False, True])
def test_a_fresh_start_clears_checkpoints_and_records(tmp_path, saved):
    write_records(tmp_path, 6)
    if saved:
        checkpoint.save(tmp_path / "checkpoint", replace(CARD, step=4), tiny_state(4.0, 4))
    state = learning._resume(run_of(), tmp_path, CARD, tiny_state())
    assert (int(state.step), weight_of(state)) == (0, 0.0)
    assert checkpoint.latest(tmp_path / "checkpoint") is None
    assert lines_of(tmp_path / "metrics.jsonl") == lines_of(tmp_path / "score.jsonl") == []


def test_resume_without_a_checkpoint_starts_afresh(tmp_path):
    write_records(tmp_path, 6)
    state = learning._resume(run_of(resume=True), tmp_path, CARD, tiny_state())
    assert int(state.step) == 0
    assert lines_of(tmp_path / "metrics.jsonl") == lines_of(tmp_path / "score.jsonl") == []


def test_resume_goes_on_from_the_checkpoint_and_cuts_the_records_to_it(tmp_path):
    write_records(tmp_path, 6)
    checkpoint.save(tmp_path / "checkpoint", replace(CARD, step=4), tiny_state(4.0, 4))
    state = learning._resume(run_of(resume=True), tmp_path, CARD, tiny_state())
    assert (int(state.step), weight_of(state)) == (4, 4.0)
    assert checkpoint.latest(tmp_path / "checkpoint").step == 4
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3]
    # The IoU after step 4 was measured on the very state that is loaded.
    assert [line["step"] for line in lines_of(tmp_path / "score.jsonl")] == [2, 4]


def test_resume_of_another_configuration_is_refused_and_changes_nothing(tmp_path):
    write_records(tmp_path, 6)
    checkpoint.save(tmp_path / "checkpoint", replace(CARD, step=4), tiny_state(4.0, 4))
    with pytest.raises(CheckpointError, match="has another config: 'config' instead of 'other'"):
        learning._resume(run_of(resume=True), tmp_path, replace(CARD, config="other"), tiny_state())
    assert checkpoint.latest(tmp_path / "checkpoint").step == 4
    assert len(lines_of(tmp_path / "metrics.jsonl")) == 6


def learned(run: Run, state: TrainState, seen: list) -> TrainState:
    """Run `_learn` with the counting step; append (first, step) of every chunk to `seen`."""

    def record(state, first, metrics):
        seen.append((first, int(state.step)))
        lines = [{"step": first + i, "total": float(x)} for i, x in enumerate(metrics.total)]
        return lines, "note"

    config = learning.train_config(run)
    card = replace(CARD, kind="train")
    state, waited = learning._learn(run, card, config, counting_step, state, None, record)
    assert waited >= 0
    return state


def with_data(run: Run, train: int = 8, test: int = 3) -> Run:
    """Put random frames in place of the data that the run would load."""
    vars(run).update(train_data=dataset(train, 1), test_data=dataset(test, 2))
    return run


def test_learning_keeps_lines_and_a_checkpoint_after_every_chunk(tmp_path, monkeypatch, capsys):
    run, seen, saved = with_data(run_of(tmp_path, train_steps=10)), [], []
    save = checkpoint.save

    def watched(directory, card, state):
        lines = lines_of(tmp_path / "train/metrics.jsonl")
        saved.append((card.kind, card.step, len(lines)))
        save(directory, card, state)

    monkeypatch.setattr(checkpoint, "save", watched)
    state = learned(run, tiny_state(), seen)
    assert (int(state.step), weight_of(state)) == (10, 10.0)
    assert seen == [(0, 4), (4, 8), (8, 10)]
    assert saved == [("train", 4, 4), ("train", 8, 8), ("train", 10, 10)]
    lines = lines_of(tmp_path / "train/metrics.jsonl")
    assert lines == [{"step": step, "total": float(step)} for step in range(10)]
    card, kept = checkpoint.load(tmp_path / "train/checkpoint", CARD, tiny_state())
    assert (card.step, weight_of(kept)) == (10, 10.0)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "10/10" in shown.err


def test_an_interrupted_run_resumes_to_the_same_end(tmp_path):
    run, chunks = with_data(run_of(tmp_path, train_steps=10, resume=True)), []

    class Interrupting(list):
        def append(self, chunk):
            if chunk[0] == 4:
                raise KeyboardInterrupt
            super().append(chunk)

    with pytest.raises(KeyboardInterrupt):
        learned(run, tiny_state(), Interrupting())
    folder = tmp_path / "train"
    state = learning._resume(run, folder, CARD, tiny_state())
    assert int(state.step) == 4
    state = learned(run, state, chunks)
    assert (chunks, weight_of(state)) == ([(4, 8), (8, 10)], 10.0)
    assert [line["total"] for line in lines_of(folder / "metrics.jsonl")] == list(range(10))


def test_a_run_from_files_may_be_resumed_from_memory(tmp_path):
    config = SyntheticConfig(width=96, height=48, train_frames=9, test_frames=2)
    generate(tmp_path / "frames", config)
    records = []
    for name, choices in (("memory", ("off", "off")), ("mixed", ("on", "off"))):
        for steps, stream in zip((6, 10), choices, strict=True):
            options = {"data": tmp_path / "frames", "stream": stream, "workers": 1}
            options |= {"cache": tmp_path / "cache", "resume": steps == 10}
            run = run_of(tmp_path / name, train_steps=steps, **options)
            assert isinstance(run.train_data.images, FrameFiles) is (stream == "on")
            state = learning._resume(run, run.out / "train", CARD, tiny_state())
            state = learned_pixels(run, state)
        assert int(state.step) == 10
        records.append(lines_of(tmp_path / name / "train/metrics.jsonl"))
    assert records[0] == records[1]
    assert len({line["pixels"] for line in records[0]}) > 1


def learned_pixels(run: Run, state: TrainState) -> TrainState:
    """Run `_learn` with a step that keeps the sum of every batch's pixels."""

    def step(state, batch, hyper):
        state, metrics = counting_step(state, batch, hyper)
        return state, metrics._replace(total=batch.images.sum())

    def record(_, first, metrics):
        sums = metrics.total.tolist()
        return [{"step": first + i, "pixels": total} for i, total in enumerate(sums)], ""

    config = learning.train_config(run)
    return learning._learn(run, CARD, config, step, state, None, record)[0]


@pytest.fixture
def trains(monkeypatch):
    """Replace network and evaluation of a training; return what they were given."""
    given = SimpleNamespace(starts=[], bits=[], measured=[])

    def init_state(spec, config, start=None):
        given.starts.append(start)
        return tiny_state()

    def make_step(spec, config, bits):
        given.bits.append(bits)
        return counting_step

    def evaluated(spec, predict, data):
        given.measured.append((predict, len(data.images)))
        return Detections(data.boxes, data.weights, np.array([predict / 100]))

    monkeypatch.setattr(finetune, "init_state", init_state)
    monkeypatch.setattr(finetune, "make_step", make_step)
    monkeypatch.setattr(
        evaluate, "predictor", lambda spec, v, bits: float(v["params"]["conv0_kernel"][0])
    )
    monkeypatch.setattr(evaluate, "evaluated", evaluated)
    return given


@pytest.mark.parametrize(
    ("steps", "marks"),
    [
        (20, [4, 8, 12, 16, 20]),
        (60, [8, 12, 16, 20, 28, 32, 36, 40, 48, 52, 56, 60]),  # after 5, 10, ...: chunks of 4
        (50, [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 50]),
        (6, [4, 6]),
    ],
)
def test_training_measures_the_iou_on_its_way(tmp_path, trains, steps, marks):
    run = with_data(run_of(tmp_path, train_steps=steps, **BITS), test=learning.SCORED_IMAGES + 3)
    result = learning.run_train(run)
    points = lines_of(tmp_path / "train/score.jsonl")
    assert points == [{"step": step, "score": pytest.approx(step / 100)} for step in marks]
    assert trains.measured == [(step, learning.SCORED_IMAGES) for step in marks]
    lines = lines_of(tmp_path / "train/metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(steps))
    assert lines[3]["total"] == 3.0
    assert lines[3]["box"] == 6.0
    assert set(lines[3]) == {"step", "total", "box", "objectness"}
    assert result.pop("waited_seconds") >= 0
    assert result == {
        "bits": {f"conv{i}": [4, 8 if i == 0 else 4] for i in range(9)},
        "w": BITS["wbits"],
        "a": BITS["abits"],
        "warm_start": False,
        "steps": steps,
    }
    card = checkpoint.latest(tmp_path / "train/checkpoint")
    assert replace(card, digest="") == replace(learning.train_card(run, GIVEN), step=steps)


@pytest.mark.parametrize("warm", [False, True])
def test_a_warm_start_takes_the_supernet_of_the_search(tmp_path, trains, monkeypatch, warm):
    found = FixedBits((2, 3, 4, 5, 6, 7, 8, 2, 3), (8, 7, 6, 5, 4, 3, 2, 8, 7))
    write_json(tmp_path / "search/result.json", bit_strings(found))
    supernet = tiny_state(9.0)
    monkeypatch.setattr(learning, "_load_supernet", lambda run: supernet)
    run = with_data(run_of(tmp_path, train_steps=4, warm_start=warm))
    result = learning.run_train(run)
    assert trains.starts == [loop.variables_of(supernet) if warm else None]
    assert trains.bits == [found]
    assert result["warm_start"] is warm
    assert result["bits"]["conv1"] == [3, 7]


def test_the_supernet_is_that_of_this_network(tmp_path, monkeypatch):
    run = run_of(tmp_path)
    monkeypatch.setattr(search, "init_state", lambda spec, config: tiny_state())
    saved = replace(learning.search_card(run), step=12)
    checkpoint.save(tmp_path / "search/checkpoint", saved, tiny_state(9.0, 12))
    assert weight_of(learning._load_supernet(run)) == 9.0
    with pytest.raises(CheckpointError, match="has another network"):
        learning._load_supernet(run_of(tmp_path, preset="demo"))


def test_trained_variables_are_those_of_the_chosen_widths(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "init_state", lambda spec, config: tiny_state())
    run = run_of(tmp_path, **BITS)
    saved = replace(learning.train_card(run, GIVEN), step=20)
    checkpoint.save(tmp_path / "train/checkpoint", saved, tiny_state(5.0, 20))
    assert float(learning.trained_variables(run)["params"]["conv0_kernel"][0]) == 5.0
    other = run_of(tmp_path, wbits="444444445", abits=BITS["abits"])
    with pytest.raises(CheckpointError, match="has another config"):
        learning.trained_variables(other)


ENDS = FixedBits((5, 4, 3, 3, 3, 4, 3, 4, 2), (8, 4, 4, 5, 3, 4, 6, 4, 7))


@pytest.fixture
def searches(monkeypatch):
    """Replace the network of a search by alphas that favour ENDS; return what it was given."""
    given = SimpleNamespace(hypers=[])
    shape = (9, len(WIDTHS))
    logits = (np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    for rows, widths in zip(logits, (ENDS.w, ENDS.a), strict=True):
        rows[np.arange(9), np.array(widths) - 2] = 1

    def init_state(spec, config):
        state = tiny_state()
        alphas = Alphas(*map(jnp.zeros_like, logits))
        return state._replace(params={**state.params, "alphas": alphas})

    def make_step(spec, config, table):
        given.table = np.asarray(table)

        def step(state, batch, hyper):
            params = {**state.params, "alphas": Alphas(*map(jnp.asarray, logits))}
            terms = {name: jnp.zeros(()) for name in ("box", "objectness")}
            rows = dict.fromkeys(
                ("entropy_w", "entropy_a", "expected_w", "expected_a"), jnp.zeros(9)
            )
            metrics = search.SearchMetrics(
                total=jnp.float32(0),
                task=hyper.tau_first + hyper.tau_last,
                cost=hyper.lam,
                alpha_w=params["alphas"].w,
                alpha_a=params["alphas"].a,
                argmax_w=jnp.full(9, 2),
                argmax_a=jnp.full(9, 8),
                terms=terms,
                tau=jnp.zeros(()),
                **rows,
            )
            return state._replace(params=params, step=state.step + 1), metrics

        return step

    monkeypatch.setattr(search, "init_state", init_state)
    monkeypatch.setattr(search, "make_step", make_step)
    return given


def test_a_search_returns_the_likeliest_widths_and_what_they_cost(tmp_path, searches):
    run = with_data(run_of(tmp_path, search_steps=6, lam=0.25, tau_first=4.0, tau_last=2.0))
    result = learning.run_search(run)
    assert (result["w"], result["a"]) == ("543334342", "844534647")
    assert result["bits"]["conv0"] == [5, 8]
    assert result["bits"]["conv8"] == [2, 7]
    graph = export.to_graph(run.spec, ENDS)
    table = cost_table(graph, run.device).values * (64 / 497_664)
    assert searches.table == pytest.approx(table, rel=1e-6)

    def cost(w, a) -> dict:
        total = sum(table[layer, w[layer] - 2, a[layer] - 2] for layer in range(9))
        return dict(zip(RESOURCES, total, strict=True))

    four = uniform_bits(run.spec, 4, 4)
    assert result["cost"] == pytest.approx(cost(ENDS.w, ENDS.a), rel=1e-6)
    assert list(result["reference_cost"]) == [str(four)]
    assert result["reference_cost"][str(four)] == pytest.approx(cost(four.w, four.a), rel=1e-6)
    lines = lines_of(tmp_path / "search/metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(6))
    assert lines[0]["cost"] == {"dsp": 0.25, "bitops": 0.0, "bram": 0.0}  # lam weighs DSPs alone
    assert lines[0]["task"] == 6.0
    assert lines[0]["argmax_cost"] == pytest.approx(cost((2,) * 9, (8,) * 9), rel=1e-6)
    card = checkpoint.latest(tmp_path / "search/checkpoint")
    assert replace(card, digest="") == replace(learning.search_card(run), step=6)


@pytest.fixture
def tested(monkeypatch):
    """Replace network and evaluation of a test; every network has an IoU of its own."""
    monkeypatch.setattr(evaluation, "trained_variables", lambda run: "trained")
    monkeypatch.setattr(export, "to_graph", lambda spec, bits, v: ("graph", bits, v))
    monkeypatch.setattr(export, "integer_bits", lambda spec, bits, v: ("integers", bits, v))
    monkeypatch.setattr(
        evaluate, "recalibrated", lambda spec, v, bits, data: (v, bits, len(data.images))
    )
    monkeypatch.setattr(evaluate, "predictor", lambda spec, v, bits: (v, bits))
    monkeypatch.setattr(evaluate, "integer_predictor", lambda graph: graph)
    monkeypatch.setattr(
        evaluate, "constant_box_iou", lambda train, test: len(train.images) / len(test.images)
    )
    levels = {
        (("trained", FloatBits(), 8), FloatBits()): 0.75,
        ("trained", GIVEN): 0.5,
        ("graph", GIVEN, "trained"): 0.25,
    }

    def evaluated(spec, predict, data):
        frames = len(data.images)
        iou = levels[predict] + np.linspace(-0.125, 0.125, frames)
        return Detections(data.boxes + levels[predict], np.arange(frames), iou)

    def code_differences(spec, variables, bits, integer, images):
        assert integer == ("integers", GIVEN, "trained")
        return {"conv0": (1, len(images))}

    monkeypatch.setattr(evaluate, "evaluated", evaluated)
    monkeypatch.setattr(evaluate, "code_differences", code_differences)


def test_the_test_compares_three_networks_and_shows_the_integer_one(tmp_path, tested):
    run = with_data(run_of(tmp_path, **BITS), train=8, test=32)
    result = evaluation.run_test(run)
    error = np.linspace(-0.125, 0.125, 32).std() / 32**0.5
    assert result == {
        "frames": 32,
        "note": "",
        "score_name": "iou",
        "score": {"float": 0.75, "quant": 0.5, "integer": 0.25, "constant": 0.25},
        "score_error": dict.fromkeys(("float", "quant", "integer"), pytest.approx(error)),
        "differences": {"conv0": [1, 8]},
    }
    shown = np.load(tmp_path / "test/samples.npz")
    assert len(shown["score"]) == evaluation.SHOWN_IMAGES
    rows = shown["confidence"]  # numbers of the frames
    assert (rows[0], rows[-1]) == (31, 0)
    assert shown["score"].tolist() == (0.25 + np.linspace(-0.125, 0.125, 32)[rows]).tolist()
    assert np.array_equal(shown["images"], run.test_data.images[rows])
    assert np.array_equal(shown["truth"], run.test_data.boxes[rows])
    assert np.array_equal(shown["predicted"], run.test_data.boxes[rows] + 0.25)
