# SPDX-License-Identifier: Apache-2.0
"""Stages that learn: search, and training at the chosen widths."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import run_folder
from experiments.data import workers
from experiments.interrupt import held_back
from experiments.progress import bar
from experiments.run_context import Run, bit_strings, bits_by_layer
from hw.resources import cost_table
from mixq_jax import checkpoint, evaluate, export, finetune, loop, search
from mixq_jax.bits import FixedBits, FloatBits, one_hot, pin, read_out
from mixq_jax.checkpoint import Card
from mixq_jax.data.augment import AugmentConfig, light, reference
from mixq_jax.data.crop import CropConfig
from mixq_jax.detect import LossGains
from mixq_jax.model import uniform_bits
from mixq_jax.optim import OptimConfig
from mixq_jax.source import to_source
from mixq_jax.spec import conv_groups
from mixq_jax.surrogate import expected_cost, normalised

AUGMENT = {"light": light, "reference": reference, "crop": CropConfig}
MIRRORED_IS_WRONG = ("mnist",)  # digits
SCORED_IMAGES = 200  # of the test split, for the curve during training
SCORE_POINTS = 12


def augmentation(run: Run) -> AugmentConfig | CropConfig:
    """Return the augmentation of the preset, without what the data set does not bear."""
    config = AUGMENT[run.preset.augment]()
    if getattr(run.options, "dataset", None) in MIRRORED_IS_WRONG:
        return replace(config, flip=0.0)
    return config


def optimiser(run: Run) -> OptimConfig:
    """Return the optimiser of the preset, as training uses it."""
    preset = run.preset
    return OptimConfig(
        name=preset.optimiser,
        learning_rate=preset.learning_rate,
        momentum=preset.momentum,
        weight_decay=preset.weight_decay,
        bias_factor=preset.bias_factor,
        bias_warmup_steps=preset.bias_warmup_steps,
        final_factor=preset.final_factor,
        alpha_learning_rate=preset.alpha_learning_rate,
        alpha_warmup_steps=preset.alpha_warmup_steps,
        alpha_weight_decay=preset.alpha_weight_decay,
        alpha_final_factor=preset.alpha_final_factor,
    )


def search_optimiser(run: Run) -> OptimConfig:
    """Return the optimiser of the preset, as the search uses it."""
    rate = run.preset.search_learning_rate
    config = optimiser(run)
    return config if rate is None else replace(config, learning_rate=rate)


def search_config(run: Run) -> search.SearchConfig:
    preset = run.preset
    return search.SearchConfig(
        steps=preset.search_steps,
        batch=preset.search_batch,
        seed=run.options.seed,
        relaxation=preset.relaxation,
        optim=search_optimiser(run),
        augment=augmentation(run),
        gains=LossGains(box=preset.box_gain),
    )


def train_config(run: Run) -> finetune.FinetuneConfig:
    preset = run.preset
    return finetune.FinetuneConfig(
        steps=preset.train_steps,
        batch=preset.train_batch,
        seed=run.options.seed,
        optim=optimiser(run),
        augment=augmentation(run),
        gains=LossGains(box=preset.box_gain),
    )


def search_card(run: Run) -> Card:
    config = f"{search_config(run)} lam={run.preset.lam} tau={run.preset.tau_first}"
    config += f"..{run.preset.tau_last} data={run.options.data} dsp={run.device.dsp_type}"
    return Card("search", repr(run.spec), config, "", 0)


def train_card(run: Run, bits: FixedBits | FloatBits) -> Card:
    config = f"{train_config(run)} bits={bits} warm={run.preset.warm_start}"
    origin = run.init_file and run.init_file.recorded
    config += f" data={run.options.data} init={origin}"
    return Card("train", repr(run.spec), config, str(bits), 0)


def run_search(run: Run) -> dict:
    """Search the widths: OUT/search/{checkpoint, metrics.jsonl}; return the result."""
    folder, config = run.out / "search", search_config(run)
    four = uniform_bits(run.spec, 4, 4)
    # The table does not depend on the bits of the graph it is made from.
    costs = cost_table(export.to_graph(run.spec, four), run.device)
    first_macs = first_layer_macs(run)
    table = normalised(costs, first_macs)
    state = search.init_state(run.spec, config)
    state = _resume(run, folder, search_card(run), state)
    lam = np.zeros(len(costs.resources), np.float32)
    lam[costs.resources.index("dsp")] = run.preset.lam
    hyper = search.Hyper(
        jnp.asarray(lam), jnp.float32(run.preset.tau_first), jnp.float32(run.preset.tau_last)
    )
    argmax_cost = _argmax_cost(np.asarray(table))

    def record(_, first: int, metrics: search.SearchMetrics) -> tuple[list[dict], str]:
        lines = _search_lines(first, metrics, costs.resources, argmax_cost)
        return lines, f"task {lines[-1]['task']:.2f}  dsp cost {lines[-1]['cost']['dsp']:.1f}"

    step = search.make_step(run.spec, config, table)
    state, waited = _learn(run, search_card(run), config, step, state, hyper, record)
    bits = read_out(pin(state.params["alphas"], run.spec.fixed_bits))

    def cost(chosen: FixedBits) -> dict[str, float]:
        return dict(
            zip(costs.resources, expected_cost(table, one_hot(chosen)).tolist(), strict=True)
        )

    return {
        "bits": bits_by_layer(run.spec, bits),
        **bit_strings(bits),
        "cost": cost(bits),
        "reference_cost": {str(four): cost(four)},
        "waited_seconds": waited,
    }


def _learn(
    run: Run,
    card: Card,
    config: search.SearchConfig | finetune.FinetuneConfig,
    step: loop.Step,
    state: loop.TrainState,
    hyper: search.Hyper | None,
    record: Callable[[loop.TrainState, int, Any], tuple[list[dict], str]],
) -> tuple[loop.TrainState, float]:
    """Run the steps of a stage; after every chunk keep the lines of `record` and a checkpoint.

    Returns the last state and the seconds for which the steps waited for data.
    """
    folder, waits = run.out / card.kind, []
    with bar(card.kind, config.steps) as advance:

        def observe(state: loop.TrainState, chunk: loop.Chunk) -> None:
            waits.append(chunk.waited_seconds)
            lines, note = record(state, chunk.first, chunk.metrics)
            done = int(state.step)
            run_folder.append_lines(folder / "metrics.jsonl", lines)
            with held_back():
                checkpoint.save(folder / "checkpoint", replace(card, step=done), state)
            advance(done, note=note)

        state = loop.train(
            step,
            state,
            to_source(run.train_data, workers(run.options)),
            hyper,
            batch=config.batch,
            seed=config.seed,
            steps=config.steps,
            chunk=run.preset.chunk,
            observe=observe,
        )
    return state, sum(waits)


def first_layer_macs(run: Run) -> int:
    """Return the multiply-accumulates of the first convolution for one frame."""
    spec, first = run.spec, run.spec.convs[0]
    fan_in = spec.channels // conv_groups(first, spec.channels)
    return spec.height * spec.width * fan_in * first.out_channels * first.kernel**2


def _argmax_cost(table: np.ndarray):
    """Return a function (width indices w `[L]`, a `[L]`) -> cost `[R]`."""
    layers = np.arange(len(table))
    return lambda w, a: table[layers, w, a].sum(0)


def _row(metrics: search.SearchMetrics | finetune.TrainMetrics, index: int) -> dict:
    """Return step `index` of stacked metrics as JSON values, the loss's terms by their names."""
    fields = metrics._asdict()
    fields |= fields.pop("terms")
    return {name: values[index].tolist() for name, values in fields.items()}


def _search_lines(first: int, metrics: search.SearchMetrics, resources, argmax_cost) -> list[dict]:
    lines = []
    for i in range(len(metrics.total)):
        row = _row(metrics, i)
        cost = argmax_cost(metrics.argmax_w[i] - 2, metrics.argmax_a[i] - 2)
        row["cost"] = dict(zip(resources, row["cost"], strict=True))
        row["argmax_cost"] = dict(zip(resources, cost.tolist(), strict=True))
        lines.append({"step": first + i, **row})
    return lines


def run_train(run: Run) -> dict:
    """Train at the chosen widths: OUT/train/{checkpoint, metrics.jsonl, score.jsonl}."""
    folder, bits = run.out / "train", run.trained_bits()
    config = train_config(run)
    warm = run.preset.warm_start and run.options.needs_search
    supernet = _load_supernet(run) if warm else None
    start = supernet and loop.variables_of(supernet)
    if run.init_file is not None:
        start = run.init_variables
    state = finetune.init_state(run.spec, config, start)
    state = _resume(run, folder, train_card(run, bits), state)
    sample = run.test_data.head(SCORED_IMAGES)
    every = max(config.steps // SCORE_POINTS, run.preset.chunk)

    def record(
        state: loop.TrainState, first: int, metrics: finetune.TrainMetrics
    ) -> tuple[list[dict], str]:
        step = int(state.step)
        if first // every != step // every or step == config.steps:
            predict = evaluate.predictor(run.spec, loop.variables_of(state), bits)
            score = evaluate.evaluated(run.spec, predict, sample).score
            run_folder.append_lines(folder / "score.jsonl", [{"step": step, "score": score}])
        lines = [{"step": first + i, **_row(metrics, i)} for i in range(len(metrics.total))]
        return lines, f"loss {lines[-1]['total']:.2f}"

    waited = 0.0
    if config.steps == 0:  # the checkpoint of --init as it is
        with held_back():
            checkpoint.save(folder / "checkpoint", train_card(run, bits), state)
    else:
        step = finetune.make_step(run.spec, config, bits)
        _, waited = _learn(run, train_card(run, bits), config, step, state, None, record)
    widths = {}
    if isinstance(bits, FixedBits):
        widths = {"bits": bits_by_layer(run.spec, bits), **bit_strings(bits)}
    return {
        **widths,
        "warm_start": supernet is not None,
        "steps": config.steps,
        "waited_seconds": waited,
    }


def trained_variables(run: Run) -> dict:
    """Return the variables of the newest training checkpoint."""
    state = finetune.init_state(run.spec, train_config(run))
    expected = train_card(run, run.trained_bits())
    return loop.variables_of(_load(run.out / "train/checkpoint", expected, state))


def _load_supernet(run: Run) -> loop.TrainState:
    template = search.init_state(run.spec, search_config(run))
    expected = Card("search", repr(run.spec), "", "", 0)
    return _load(run.out / "search/checkpoint", expected, template)


def _load(directory: Path, card: Card, template: loop.TrainState) -> loop.TrainState:
    with held_back():
        return checkpoint.load(directory, card, template)[1]


def _resume(run: Run, folder: Path, card: Card, state: loop.TrainState) -> loop.TrainState:
    """Return the state to start from; cut the records to it, or clear them for a fresh start."""
    saved = checkpoint.latest(folder / "checkpoint") if run.options.resume else None
    if saved is not None:
        state = _load(folder / "checkpoint", card, state)
    else:
        checkpoint.clear(folder / "checkpoint")
    run_folder.keep_lines_before(folder / "metrics.jsonl", int(state.step))
    run_folder.keep_lines_before(folder / "score.jsonl", int(state.step) + (saved is not None))
    return state
