# SPDX-License-Identifier: Apache-2.0
"""What a report calls things, by the score of its run."""

from typing import NamedTuple


class Words(NamedTuple):
    """Names of the score, of one answer for all, of the images; what the score and that one are."""

    score: str
    constant: str
    images: str
    meaning: str
    constant_meaning: str


WORDS = {
    "iou": Words(
        "IoU",
        "constant box",
        "frames",
        "IoU is the mean over frames of the overlap with the labelled box.",
        "The constant box sits in the centre and has the median size of the training boxes.",
    ),
    "accuracy": Words(
        "accuracy",
        "one class",
        "images",
        "Accuracy is the share of images whose highest score is that of their class.",
        "One class for all images: the most frequent of the training set.",
    ),
}
