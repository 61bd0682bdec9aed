# SPDX-License-Identifier: Apache-2.0
"""Sample detections: colours, places of the boxes, the enlarged part."""

import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.report.detections import shots
from experiments.report.record import Samples

HEIGHT, WIDTH = 40, 80


def shot(truth: tuple, predicted: tuple, bgr=(0, 0, 0)) -> ElementTree.Element:
    """Return the figure of one plain frame."""
    images = np.full((1, HEIGHT, WIDTH, 3), bgr, np.uint8)
    boxes = (np.array([box], np.float32) for box in (truth, predicted))
    scores = np.array([0.5], np.float32)
    return ElementTree.fromstring(shots(Samples(images, *boxes, scores, scores))[0])


def test_bgr_bytes_become_a_picture_in_true_colours():
    href = shot((0.5, 0.5, 0.1, 0.1), (0.5, 0.5, 0.1, 0.1), (250, 120, 5)).find(".//image")
    data = base64.b64decode(href.get("href").removeprefix("data:image/jpeg;base64,"))
    picture = np.asarray(Image.open(io.BytesIO(data)))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(picture.astype(int) - (5, 120, 250)).max() <= 4  # JPEG is lossy


def test_boxes_are_where_they_were_said_to_be():
    figure = shot((0.5, 0.5, 0.25, 0.5), (0.25, 0.75, 0.5, 0.25))
    places = {
        box.get("class"): [float(box.get(key)) for key in ("x", "y", "width", "height")]
        for box in figure.iter("rect")
    }
    assert places["truth"] == [30, 10, 20, 20]
    assert places["prediction"] == [0, 25, 40, 10]


@given(*(st.floats(0, 1) for _ in range(4)))
def test_the_enlarged_part_is_a_square_inside_the_frame_around_the_label(cx, cy, w, h):
    figure = shot((cx, cy, w, h), (0.5, 0.5, 0.1, 0.1))
    x, y, side, other = map(float, figure.findall(".//svg")[1].get("viewBox").split())
    rounding = 0.02  # of two decimals
    assert side == other
    assert -rounding <= x <= WIDTH - side + rounding
    assert -rounding <= y <= HEIGHT - side + rounding
    assert x - rounding <= cx * WIDTH <= x + side + rounding
    assert y - rounding <= cy * HEIGHT <= y + side + rounding
