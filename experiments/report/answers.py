# SPDX-License-Identifier: Apache-2.0
"""Sample answers of a classifier: the image, its class and what the network says."""

import base64
import io
from collections.abc import Sequence

import numpy as np

from experiments.report.elements import Markup, tag
from experiments.report.record import Samples


def answers(found: Samples, classes: Sequence[str]) -> list[Markup]:
    """Return one figure an image; `classes` are the names of the labels."""
    return [_answer(found, classes, index) for index in range(len(found.images))]


def _answer(found: Samples, classes: Sequence[str], index: int) -> Markup:
    truth, predicted = (classes[int(labels[index])] for labels in (found.truth, found.predicted))
    right = truth == predicted
    said = tag("strong", predicted, class_="right" if right else "wrong")
    more = "" if right else f" is a {truth}"
    confidence = f" {float(found.confidence[index]):.2f}"
    picture = tag("img", src=_png(found.images[index]), alt=truth, class_="pixels")
    return tag("figure", picture, tag("figcaption", said, confidence, more), class_="answer")


def _png(image: np.ndarray) -> str:
    """Return RGB or grey bytes [H, W, C] as the address of a PNG."""
    from PIL import Image

    pixels = image[..., 0] if image.shape[2] == 1 else image
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
