# SPDX-License-Identifier: Apache-2.0
"""The end that classifiers share: a dense layer over the whole last map."""

from mixq_jax.spec import ConvSpec, Layer, ReorgSpec

CLASSIFIER_BITS = (8, 8)


def dense_classifier(source: str, side: int, classes: int) -> tuple[Layer, Layer]:
    """Return what gives a score a class: `source`, `side` x `side`, flattened, a 1x1 convolution.

    It is fixed at 8 bits.
    """
    flatten = ReorgSpec("flatten", source, side)
    scores = ConvSpec(
        "classifier",
        flatten.name,
        classes,
        kernel=1,
        norm=False,
        bias=True,
        fixed_bits=CLASSIFIER_BITS,
    )
    return flatten, scores
