# SPDX-License-Identifier: Apache-2.0
"""Evaluation: mean IoU or accuracy of the float, the quantised and the integer network."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hw.ir import Graph
from mixq_jax import classify, detect, model
from mixq_jax.bits import FixedBits, FloatBits
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.labelled import Labelled
from mixq_jax.integer import executor
from mixq_jax.norm import EPS, MOMENTUM
from mixq_jax.source import batch_rows
from mixq_jax.spec import ClassifyHead, DetectHead, NetSpec

Predict = Callable[[np.ndarray], jax.Array]  # uint8 [N, H, W, C] -> head output [N, gh, gw, M]


@dataclass(frozen=True)
class Detections:
    """Predicted boxes `[N, 4]` (normalised), confidence `[N]`, IoU with the truth `[N]`."""

    boxes: np.ndarray
    confidence: np.ndarray
    iou: np.ndarray

    @property
    def score(self) -> float:
        """Return the mean IoU."""
        return float(self.iou.mean())

    @property
    def score_error(self) -> float:
        """Return the standard error of `score`: how far another draw of frames may lead."""
        return float(self.iou.std() / len(self.iou) ** 0.5)


@dataclass(frozen=True)
class Decisions:
    """Predicted classes `[N]`, their softmax probability `[N]`, whether they are right `[N]`."""

    labels: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    @property
    def score(self) -> float:
        """Return the top-1 accuracy."""
        return float(self.right.mean())

    @property
    def score_error(self) -> float:
        """Return the standard error of `score`: how far another draw of images may lead."""
        return float(self.right.std() / len(self.right) ** 0.5)


def predictor(spec: NetSpec, variables: dict, bits: FloatBits | FixedBits) -> Predict:
    """Return the network in inference mode, compiled once for all `variables`."""
    return lambda images: _infer(spec, bits, variables, images)


@partial(jax.jit, static_argnums=(0, 1))
def _infer(spec: NetSpec, bits: FloatBits | FixedBits, variables: dict, images: Array) -> Array:
    return model.apply(spec, variables, images.astype(jnp.float32), bits, False)[0]


def recalibrated(
    spec: NetSpec, variables: dict, bits: model.Bits, data: Dataset | Labelled, batches: int = 60
) -> dict:
    """Return variables whose batch norm statistics were gathered at `bits`, batches of 32.

    A network run at other widths than it was trained at needs the statistics of those widths;
    after 60 batches the old ones weigh 0.9^60 = 0.2 %.
    """

    @jax.jit
    def gather(batch_stats, images):
        return model.apply(
            spec,
            {"params": variables["params"], "batch_stats": batch_stats},
            images.astype(jnp.float32),
            bits,
            True,
        )[1]

    stats = variables["batch_stats"]
    for rows in batch_rows(len(data.images), 32, 0, 0, batches):
        stats = gather(stats, data.images[rows])
    return {"params": variables["params"], "batch_stats": stats}


def variance_ratios(
    spec: NetSpec, variables: dict, bits: model.Bits, images: np.ndarray
) -> dict[str, float]:
    """Return {layer: variance of its sums over what its batch norm remembers}, median of channels.

    About 1 for a network that runs as it was trained, on images like those of its training.
    """
    pixels = jnp.asarray(images, jnp.float32)
    new = jax.jit(lambda v: model.apply(spec, v, pixels, bits, True)[1])(variables)
    ratios = {}
    for layer, old in variables["batch_stats"].items():
        kept = (1 - MOMENTUM) * old.var  # the rest is of this batch
        ratio = (new[layer].var - kept) / (MOMENTUM * jnp.maximum(old.var, EPS))
        ratios[layer] = float(jnp.median(ratio))
    return ratios


def integer_predictor(graph: Graph) -> Predict:
    """Return the integer network; its accumulators are scaled to real values only at the end."""
    run, scale = executor(graph), jnp.asarray(graph.output.scale, jnp.float32)
    return lambda images: run(jnp.asarray(images, jnp.int32))[graph.output.name] * scale


def detections_of(spec: NetSpec, outputs: np.ndarray, data: Dataset) -> Detections:
    """Return what the outputs of a head `[N, gh, gw, M]` mean, frame by frame."""
    boxes, confidence = jax.device_get(_decode(spec, jnp.asarray(outputs, jnp.float32)))
    return Detections(boxes, confidence, np.asarray(detect.iou(boxes, data.boxes)))


def inclusive_iou(boxes: np.ndarray, truth: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the IoU of normalised boxes `[N, 4]` that hold the pixels at both of their ends.

    `sizes` `[N, 2]` (width, height) of the frames: sides are one pixel longer, as some contests
    count them.
    """
    scale = np.concatenate([sizes, sizes], 1)
    first, second = boxes * scale, truth * scale
    low = np.maximum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = np.minimum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    overlap = np.maximum(high - low + 1, 0).prod(1)
    areas = (first[:, 2:] + 1).prod(1) + (second[:, 2:] + 1).prod(1)
    return overlap / (areas - overlap)


@partial(jax.jit, static_argnums=0)
def _decode(spec: NetSpec, output: Array) -> tuple[Array, Array]:
    return detect.decode(spec, output)


def decisions_of(outputs: np.ndarray, data: Labelled) -> Decisions:
    """Return what the outputs of a classifier `[N, 1, 1, classes]` mean, image by image."""
    scores = jnp.asarray(outputs, jnp.float32)
    labels = np.asarray(classify.decide(scores))
    confidence = np.asarray(jax.nn.softmax(scores[:, 0, 0]).max(-1))
    return Decisions(labels, confidence, labels == data.labels)


def answers(spec: NetSpec, outputs: np.ndarray, data: Dataset | Labelled) -> Detections | Decisions:
    """Return what the outputs `[N, h, w, M]` of a network's head say, with a score an image."""
    match spec.head:
        case DetectHead():
            return detections_of(spec, outputs, data)
        case ClassifyHead():
            return decisions_of(outputs, data)


def evaluated(
    spec: NetSpec, predict: Predict, data: Dataset | Labelled, batch: int = 50
) -> Detections | Decisions:
    """Run `predict` over a data set in batches and return what its head says of every image.

    A batch at a time is in memory, of frames that are files too.
    """
    parts = []
    for at in range(0, len(data.images), batch):
        part = data.rows(slice(at, at + batch))
        parts.append(answers(spec, jax.device_get(predict(part.images)), part))
    columns = (
        np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(parts[0])
    )
    return type(parts[0])(*columns)


def constant_score(spec: NetSpec, train: Dataset | Labelled, test: Dataset | Labelled) -> float:
    """Return the score of one answer for all images, the best that the training set suggests."""
    match spec.head:
        case DetectHead():
            return constant_box_iou(train, test)
        case ClassifyHead():
            return float((test.labels == np.bincount(train.labels).argmax()).mean())


def constant_box_iou(train: Dataset, test: Dataset) -> float:
    """Return the mean IoU of one box for all: centre of the frame, median size of the train set."""
    size = np.median(train.boxes[:, 2:], 0)
    box = np.concatenate([[0.5, 0.5], size]).astype(np.float32)
    return float(np.mean(detect.iou(np.broadcast_to(box, test.boxes.shape), test.boxes)))


def code_differences(
    spec: NetSpec, variables: dict, bits: FixedBits, integer: model.IntegerBits, images: np.ndarray
) -> dict[str, tuple[int, int]]:
    """Count input codes that differ between the quantised and the integer network, per layer.

    Returns {layer: (differing, all)}. They differ where the float32 norm falls to the other side of
    an edge than the integer multiplier, and downstream of such places.
    """
    pixels = jnp.asarray(images, jnp.float32)

    def codes(which: model.Bits) -> dict:
        network = model.Network(spec)
        run = jax.jit(lambda v, x: network.apply(v, x, which, False, mutable=["intermediates"])[1])
        return jax.device_get(run(variables, pixels)["intermediates"])

    first, second = codes(bits), codes(integer)
    return {
        layer.name: (int((a != b).sum()), a.size)
        for layer in spec.convs
        for a, b in [(first[f"{layer.name}_input"][0], second[f"{layer.name}_input"][0])]
    }
