# SPDX-License-Identifier: Apache-2.0
"""The stage that evaluates: float, quantised and integer network on the test split."""

import numpy as np

from experiments.learning import trained_variables
from experiments.progress import bar
from experiments.run_context import Run
from mixq_jax import evaluate, export
from mixq_jax.bits import FixedBits, FloatBits
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.labelled import Labelled
from mixq_jax.evaluate import Decisions, Detections
from mixq_jax.task import score_name

SHOWN_IMAGES = 12
COMPARED_IMAGES = 8  # of which every code of both networks is compared


def run_test(run: Run) -> dict:
    """Evaluate float, quantised and integer network; sample answers: OUT/test/samples.npz."""
    bits, variables = run.trained_bits(), trained_variables(run)
    data, spec = run.test_data, run.spec
    networks = _networks(run, bits, variables)
    name, found = score_name(spec), {}
    with bar("test", len(networks)) as advance:
        for done, (network, predict) in enumerate(networks.items(), 1):
            found[network] = evaluate.evaluated(spec, predict, data)
            advance(done, note=f"{network} {name} {found[network].score:.4f}")
    differences = {}
    if isinstance(bits, FixedBits):
        integer = export.integer_bits(spec, bits, variables)
        images = data.images[:COMPARED_IMAGES]
        differences = evaluate.code_differences(spec, variables, bits, integer, images)
    scores = {network: result.score for network, result in found.items()}
    scores["constant"] = evaluate.constant_score(spec, run.train_data, data)
    (run.out / "test").mkdir(parents=True, exist_ok=True)
    np.savez(run.out / "test/samples.npz", **_samples(found[tuple(networks)[-1]], data))
    return {
        "frames": len(data.images),
        "note": getattr(data, "note", ""),
        "score_name": name,
        "score": scores,
        "score_error": {network: result.score_error for network, result in found.items()},
        "differences": {layer: list(pair) for layer, pair in differences.items()},
    }


def _networks(
    run: Run, bits: FixedBits | FloatBits, variables: dict
) -> dict[str, evaluate.Predict]:
    """Return what is compared, by name; the last one is what a user would deploy."""
    spec = run.spec
    if isinstance(bits, FloatBits):
        return {"float": evaluate.predictor(spec, variables, bits)}
    # The float weights behind the quantised ones, no quantiser anywhere, their own statistics.
    unquantised = evaluate.recalibrated(spec, variables, FloatBits(), run.train_data)
    return {
        "float": evaluate.predictor(spec, unquantised, FloatBits()),
        "quant": evaluate.predictor(spec, variables, bits),
        "integer": evaluate.integer_predictor(export.to_graph(spec, bits, variables)),
    }


def _samples(found: Detections | Decisions, data: Dataset | Labelled) -> dict[str, np.ndarray]:
    """Return a few images with the truth and a network's answers, best first."""
    match found:
        case Detections(boxes=predicted, iou=score):
            rows = _spread(score, SHOWN_IMAGES)
        case Decisions(labels=predicted, right=right, confidence=confidence):
            score = np.where(right, confidence, -confidence)  # surest right ones first
            rows = _spread(score, SHOWN_IMAGES)
    return {
        "images": data.images[rows],
        "truth": data.targets[rows],
        "predicted": predicted[rows],
        "score": score[rows],
        "confidence": found.confidence[rows],
    }


def _spread(score: np.ndarray, count: int) -> np.ndarray:
    """Return rows at even quantiles of the score, best first: a fair sample, not the best ones."""
    order = np.argsort(-score, kind="stable")
    return order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)]
