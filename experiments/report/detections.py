# SPDX-License-Identifier: Apache-2.0
"""Sample detections: frames as JPEG inside the page, boxes as vectors over them."""

import base64
import io

import numpy as np

from experiments.report.elements import Markup, tag
from experiments.report.record import Samples

JPEG_QUALITY = 88
ZOOM = 3.0  # side of the enlarged square over the longer side of the labelled box
LEAST_SIDE = 20.0  # pixels of the enlarged square


def shots(found: Samples) -> list[Markup]:
    """Return one figure a frame: the frame, the enlarged surroundings of its label, the scores."""
    return [_shot(found, index) for index in range(len(found.images))]


def _shot(found: Samples, index: int) -> Markup:
    image = found.images[index]
    height, width = image.shape[:2]
    scale = np.array([width, height, width, height], float)
    truth, predicted = found.truth[index] * scale, found.predicted[index] * scale
    scene = tag(
        "g",
        tag("image", href=_jpeg(image), width=width, height=height, class_="pixels"),
        *_box(truth, "truth"),
        *_box(predicted, "prediction"),
        id=f"frame{index}",
    )
    iou, confidence = float(found.score[index]), float(found.confidence[index])
    label = f"IoU {iou:.2f}"
    frame = tag("svg", scene, view_box=f"0 0 {width} {height}", role="img", aria_label=label)
    zoom = tag("svg", tag("use", href=f"#frame{index}"), view_box=_around(truth, width, height))
    caption = tag("figcaption", tag("strong", label), f" confidence {confidence:.2f}")
    return tag("figure", tag("div", frame, zoom, class_="views"), caption, class_="shot")


def _jpeg(image: np.ndarray) -> str:
    """Return BGR bytes [H, W, 3] as the address of a JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(
        buffer, "JPEG", quality=JPEG_QUALITY
    )
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _box(box: np.ndarray, kind: str) -> tuple[Markup, Markup]:
    """Return the box (cx, cy, w, h in pixels) over a dark edge that shows on any ground."""
    cx, cy, w, h = box.tolist()
    place = {
        "x": f"{cx - w / 2:.2f}",
        "y": f"{cy - h / 2:.2f}",
        "width": f"{w:.2f}",
        "height": f"{h:.2f}",
    }
    return tag("rect", class_="edge", **place), tag("rect", class_=kind, **place)


def _around(box: np.ndarray, width: int, height: int) -> str:
    """Return the view of a square around the box that stays inside the frame."""
    cx, cy, w, h = box.tolist()
    side = min(max(ZOOM * max(w, h), LEAST_SIDE), width, height)
    x = min(max(cx - side / 2, 0), width - side)
    y = min(max(cy - side / 2, 0), height - side)
    return f"{x:.2f} {y:.2f} {side:.2f} {side:.2f}"
