# SPDX-License-Identifier: Apache-2.0
"""Quantisers as integer codes times scales, for one width and for mixtures of widths.

A mixture sum_i p_i s_i c_i of codes c_i with steps s_i is kept as scale * hat:

    scale = sum_i p_i s_i,   hat = sum_i r_i c_i,   r_i = p_i s_i / scale

so that a one-hot p gives hat = c_k, the integer codes themselves: convolutions of a network with
chosen widths run on exact integers, and one-hot SoftBits equals FixedBits bit for bit.
Every hat has a hand-written VJP that keeps only the input and r (not the seven branches).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hw.intmath import activation_range, weight_range
from mixq_jax.bits import WIDTHS

# Weight step in units of `normalise`. "reference": DeepBurning-MixQ (ICCAD'23), made for the full
# range. "mse": minimises the squared error on N(0, 1) (re-derived in the tests). "dorefa": of
# weights in [-1, 1] (Zhou et al., 2016); its full range is that of DeepBurning-MixQ's baselines.
WEIGHT_STEPS = {
    ("reference", False): (0.996, 0.586, 0.336, 0.190, 0.106, 0.059, 0.032),
    ("reference", True): (0.996, 0.586, 0.336, 0.190, 0.106, 0.059, 0.032),
    ("mse", False): (1.048, 0.602, 0.339, 0.189, 0.104, 0.057, 0.031),
    ("mse", True): (1.224, 0.651, 0.353, 0.193, 0.1055, 0.0573, 0.0309),
    ("dorefa", False): tuple(2.0 ** (1 - b) for b in WIDTHS),
    ("dorefa", True): tuple(1 / weight_range(b, True)[1] for b in WIDTHS),
}
# Activation step after batch norm. "reference": HWGQ steps of the same work; "mse": half-Gaussian.
# "dorefa": 2^b levels over [0, 1]; "dorefa_shift": the same with a step that is a power of two.
ACT_STEPS = {
    "reference": (0.538, 0.3217, 0.185, 0.104, 0.058, 0.033, 0.019),
    "mse": (0.651, 0.353, 0.193, 0.1055, 0.0573, 0.0309, 0.0165),
    "dorefa": tuple(1 / activation_range(b)[1] for b in WIDTHS),
    "dorefa_shift": tuple(2.0**-b for b in WIDTHS),
}
LEVELS = np.array([activation_range(b)[1] for b in WIDTHS], np.float32)
PIXEL_BITS = 8


def mixture(
    probs: Float[Array, " widths"], steps: Float[Array, " widths"]
) -> tuple[Float[Array, " widths"], Float[Array, ""]]:
    """Return (r, scale) of the module docstring; exact 1 and step for a one-hot `probs`."""
    weighted = probs * steps
    scale = weighted.sum()
    r = weighted / scale
    # XLA multiplies by 1 / scale, which for a one-hot `probs` may miss 1 by a rounding error.
    return jnp.where(probs == 1, 1 + (r - jax.lax.stop_gradient(r)), r), scale


def nearest_code(x: Array, step: float) -> Array:
    """Return floor(x / step + 1/2): half up, as the hardware's requantiser rounds.

    1 / step is a factor: exact for a step of 1 / levels, so that multiples of a power of two, as
    residual sums are, tie here where the integers do. Doubled halves are floored twice because
    x / step + 1/2 would be one rounding or two as the compiler likes.
    """
    return jnp.floor((jnp.floor(x * (2 / step)) + 1) / 2)


def act_code(x: Array, step: float, levels: float | Array) -> Array:
    """Return clip(round(x / step), 0, levels), round half up."""
    return jnp.clip(nearest_code(x, step), 0.0, levels)


def image_code(pixels: Array, bits: int) -> Array:
    """Return the top `bits` bits of 8-bit pixels held in float32: floor(p / 2^(8 - bits))."""
    return jnp.floor(pixels * 2.0 ** (bits - PIXEL_BITS))


def weight_code(w: Array, step: Array, bits: int, narrow: bool) -> Array:
    """Return clip(round(w / step)) in the signed range of `bits`, half to even."""
    lo, hi = weight_range(bits, narrow)
    return jnp.clip(jnp.round(w / step), lo, hi)


def image_steps(levels: int) -> tuple[float, ...]:
    """Return the real value of one code of the image at each width: 2^(8 - b) / levels."""
    return tuple(2.0 ** (PIXEL_BITS - b) / levels for b in WIDTHS)


def normalise(w: Array, weight_steps: str) -> tuple[Array, Float[Array, ""]]:
    """Return the weights that a step table quantises and the unit of its steps.

    The weights and their deviation; for "dorefa" tanh(w) / max |tanh(w)| and 1.
    """
    if weight_steps == "dorefa":
        squashed = jnp.tanh(w)
        return squashed / jnp.abs(squashed).max(), jnp.float32(1)
    return w, weight_deviation(w)


def weight_deviation(w: Array) -> Float[Array, ""]:
    """Return the unbiased standard deviation (n - 1, as torch) without gradient."""
    return jax.lax.stop_gradient(jnp.std(w, ddof=1))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def mix_act(x: Array, r: Float[Array, " widths"], steps: tuple[float, ...]) -> Array:
    """Return sum_i r_i act_code(x, steps_i); straight-through inside (0, clip_i), 0 outside."""
    codes = (act_code(x, step, level) for step, level in zip(steps, LEVELS, strict=True))
    return sum(r[i] * code for i, code in enumerate(codes))


def _mix_act_fwd(x, r, steps):
    return mix_act(x, r, steps), (x, r)


def _mix_act_bwd(steps, residuals, g):
    x, r = residuals
    slope, dr = 0.0, []
    for i, (step, level) in enumerate(zip(steps, LEVELS, strict=True)):
        inside = (x > 0) & (x < step * level)
        slope = slope + jnp.where(inside, r[i] / step, 0.0)
        dr.append(jnp.sum(g * act_code(x, step, level)))
    return g * slope, jnp.stack(dr)


mix_act.defvjp(_mix_act_fwd, _mix_act_bwd)


def mix_image(pixels: Array, r: Float[Array, " widths"]) -> Array:
    """Return sum_i r_i image_code(pixels, b_i); gradient to r only (pixels are data)."""
    pixels = jax.lax.stop_gradient(pixels)
    return sum(r[i] * image_code(pixels, bits) for i, bits in enumerate(WIDTHS))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def mix_weight(
    w: Array, r: Float[Array, " widths"], steps: Float[Array, " widths"], narrow: bool
) -> Array:
    """Return sum_i r_i weight_code(w, steps_i, b_i); straight-through everywhere (also clipped)."""
    codes = (weight_code(w, steps[i], bits, narrow) for i, bits in enumerate(WIDTHS))
    return sum(r[i] * code for i, code in enumerate(codes))


def _mix_weight_fwd(w, r, steps, narrow):
    return mix_weight(w, r, steps, narrow), (w, r, steps)


def _mix_weight_bwd(narrow, residuals, g):
    w, r, steps = residuals
    dr = [jnp.sum(g * weight_code(w, steps[i], b, narrow)) for i, b in enumerate(WIDTHS)]
    return g * jnp.sum(r / steps), jnp.stack(dr), jnp.zeros_like(steps)


mix_weight.defvjp(_mix_weight_fwd, _mix_weight_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def fixed_act(x: Array, step: float, levels: float) -> Array:
    """Return act_code with the straight-through gradient 1 / step inside (0, clip), 0 outside."""
    return act_code(x, step, levels)


def _fixed_act_fwd(x, step, levels):
    return act_code(x, step, levels), x


def _fixed_act_bwd(step, levels, x, g):
    return (jnp.where((x > 0) & (x < step * levels), g / step, 0.0),)


fixed_act.defvjp(_fixed_act_fwd, _fixed_act_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def grid_code(x: Array, step: float, lo: int, hi: int) -> Array:
    """Return clip(round(x / step), lo, hi), half up; straight-through 1 / step inside the clips."""
    return jnp.clip(nearest_code(x, step), lo, hi)


def _grid_code_fwd(x, step, lo, hi):
    return grid_code(x, step, lo, hi), x


def _grid_code_bwd(step, lo, hi, x, g):
    return (jnp.where((x > step * lo) & (x < step * hi), g / step, 0.0),)


grid_code.defvjp(_grid_code_fwd, _grid_code_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def fixed_weight(w: Array, step: Float[Array, ""], bits: int, narrow: bool) -> Array:
    """Return weight_code with the straight-through gradient 1 / step everywhere."""
    return weight_code(w, step, bits, narrow)


def _fixed_weight_fwd(w, step, bits, narrow):
    return weight_code(w, step, bits, narrow), step


def _fixed_weight_bwd(bits, narrow, step, g):
    return g / step, jnp.zeros_like(step)


fixed_weight.defvjp(_fixed_weight_fwd, _fixed_weight_bwd)
