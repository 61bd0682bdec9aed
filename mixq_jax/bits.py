# SPDX-License-Identifier: Apache-2.0
"""Bit-widths of every layer: none, a probability over widths, or one width; relaxations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

WIDTHS = (2, 3, 4, 5, 6, 7, 8)
Relaxation = Literal["softmax", "gumbel", "gumbel_hard"]


class BitsError(ValueError):
    """Bit strings that do not fit the network; the message says what is allowed."""


@dataclass(frozen=True)
class FloatBits:
    """No quantisation: float weights, ReLU activations."""


class SoftBits(NamedTuple):
    """Probability of every width in `WIDTHS` for each layer's weights `w` and activations `a`."""

    w: Float[Array, "layers widths"]
    a: Float[Array, "layers widths"]


@dataclass(frozen=True)
class FixedBits:
    """One width per layer (static): `w[l]`, `a[l]` bits of weights and input activations."""

    w: tuple[int, ...]
    a: tuple[int, ...]

    def __post_init__(self):
        for bits in (*self.w, *self.a):
            if bits not in WIDTHS:
                raise BitsError(f"bit-width {bits} is not in {WIDTHS[0]}..{WIDTHS[-1]}")
        if len(self.w) != len(self.a):
            raise BitsError(f"{len(self.w)} weight widths but {len(self.a)} activation widths")

    def __str__(self) -> str:
        return f"w {''.join(map(str, self.w))} a {''.join(map(str, self.a))}"


def parse_bits(w: str, a: str, fixed: Sequence[tuple[int, int] | None]) -> FixedBits:
    """Return the widths written as digit strings such as "444444444"; one digit a layer.

    `fixed`: for every layer None, or widths (w, a) whose digits may be left out of both strings.
    Raises BitsError naming the string and the number of layers.
    """
    layers, searched = len(fixed), sum(pair is None for pair in fixed)
    for text in (w, a):
        if not (text.isascii() and text.isdigit()) or len(text) not in (layers, searched):
            counts = f"{layers} digits" if layers == searched else f"{searched} or {layers} digits"
            raise BitsError(f"bit string '{text}' must have {counts}, one for each layer")
    return FixedBits(*(_digits(text, fixed, index) for index, text in enumerate((w, a))))


def _digits(text: str, fixed: Sequence[tuple[int, int] | None], index: int) -> tuple[int, ...]:
    if len(text) == len(fixed):
        return tuple(map(int, text))
    digits = map(int, text)
    return tuple(next(digits) if pair is None else pair[index] for pair in fixed)


class Alphas(NamedTuple):
    """Logits over `WIDTHS` for each layer's weights and activations."""

    w: Float[Array, "layers widths"]
    a: Float[Array, "layers widths"]


def init_alphas(layers: int) -> Alphas:
    """Return equal logits (uniform mixture); 0.01 as in the reference, the value is immaterial."""
    shape = (layers, len(WIDTHS))
    # With a dtype: a weak type would turn strong in the first step, which compiles it anew.
    return Alphas(*(jnp.full(shape, 0.01, jnp.float32) for _ in Alphas._fields))


def pin(alphas: Alphas, fixed: Sequence[tuple[int, int] | None]) -> Alphas:
    """Return logits that leave one choice where `fixed` gives widths (w, a); None leaves a row.

    Every relaxation of -inf is exactly 0 and has gradient 0.
    """
    if not any(fixed):
        return alphas
    known = np.array([pair is not None for pair in fixed])[:, None]
    choice = one_hot(FixedBits(*zip(*(pair or (WIDTHS[0],) * 2 for pair in fixed), strict=True)))
    return Alphas(
        *(
            jnp.where(known, jnp.log(rows), logits)
            for rows, logits in zip(choice, alphas, strict=True)
        )
    )


def soft_bits(
    alphas: Alphas, relaxation: Relaxation, tau: Float[Array, ""], key: PRNGKeyArray
) -> SoftBits:
    """Relax the choice of widths into probabilities.

    softmax: softmax(alpha / tau); gumbel: softmax((alpha + g) / tau), g standard Gumbel;
    gumbel_hard: its arg max one-hot forward, gradient of the soft sample (straight-through).
    Source of the Gumbel-softmax: Jang et al., ICLR 2017.
    """
    if relaxation == "softmax":
        return SoftBits(*(jax.nn.softmax(logits / tau) for logits in alphas))
    keys = jax.random.split(key)
    soft = [
        jax.nn.softmax((logits + jax.random.gumbel(k, logits.shape)) / tau)
        for logits, k in zip(alphas, keys, strict=True)
    ]
    if relaxation == "gumbel":
        return SoftBits(*soft)
    return SoftBits(*(_straight_through(probs) for probs in soft))


def _straight_through(probs: Float[Array, "layers widths"]) -> Float[Array, "layers widths"]:
    hard = jax.nn.one_hot(probs.argmax(-1), probs.shape[-1], dtype=probs.dtype)
    # (hard - probs) + probs is not exactly hard in floating point; this form is.
    return hard + (probs - jax.lax.stop_gradient(probs))


def one_hot(bits: FixedBits) -> SoftBits:
    """Return the SoftBits that puts probability 1 on the widths of `bits`."""
    table = jnp.eye(len(WIDTHS), dtype=jnp.float32)
    return SoftBits(
        *(table[jnp.array([WIDTHS.index(b) for b in bits_])] for bits_ in (bits.w, bits.a))
    )


def read_out(alphas: Alphas) -> FixedBits:
    """Return the most probable width of every layer (ties: the smaller width)."""
    return FixedBits(
        *(tuple(WIDTHS[int(i)] for i in jax.device_get(logits.argmax(-1))) for logits in alphas)
    )


def entropy(probs: Float[Array, "layers widths"]) -> Float[Array, " layers"]:
    """Return the entropy of every row in nats (0 ln 0 = 0)."""
    return -jnp.sum(jnp.where(probs > 0, probs * jnp.log(jnp.maximum(probs, 1e-30)), 0.0), -1)


def expected_bits(probs: Float[Array, "layers widths"]) -> Float[Array, " layers"]:
    """Return the mean width of every row."""
    return probs @ jnp.array(WIDTHS, probs.dtype)
