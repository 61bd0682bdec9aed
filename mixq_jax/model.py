# SPDX-License-Identifier: Apache-2.0
"""The one Flax module: a NetSpec run as float, supernet, fixed-bit or integer network.

Values between layers are `Value`s: pre-activations that a consumer quantises with its own width.
In integer mode a value is a function of the width, because requantisation joins the producer's
batch norm with the consumer's step; pooling, reorg and concatenation then act on codes (the
quantiser is monotone, so both orders agree).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixq_jax import quant
from mixq_jax.bits import (
    WIDTHS,
    Alphas,
    BitsError,
    FixedBits,
    FloatBits,
    SoftBits,
    init_alphas,
)
from mixq_jax.convolve import convolve
from mixq_jax.integer import RequantTable, requantise
from mixq_jax.norm import BatchStats, affine, batch_norm, update
from mixq_jax.pool import max_pool, space_to_depth
from mixq_jax.spec import (
    INPUT,
    AddSpec,
    ConcatSpec,
    ConvSpec,
    Grid,
    NetSpec,
    PoolSpec,
    ReorgSpec,
    conv_groups,
    infer_shapes,
)

CodeFormat = int | Grid  # activation width of a convolution, or codes of an operand of a sum


class IntegerBits(NamedTuple):
    """Fixed widths plus the integer weights and requantisers of an exported graph.

    `weights[layer]` are its codes and `steps[layer]` is their step: quantised anew, a weight on the
    edge of two codes can fall to the other one, as compilers round tanh and deviations differently.
    `tables[(layer, format)]` replaces its batch norm and the quantiser behind it: that of a width,
    or of an operand of a sum. Layers of `wide` have sums that float32 does not hold: their codes
    are convolved in two halves. Close over it, it is not a jit argument.
    """

    bits: FixedBits
    weights: dict[str, np.ndarray]
    steps: dict[str, float]
    tables: dict[tuple[str, CodeFormat], RequantTable]
    wide: frozenset[str] = frozenset()


HALF_CODE_BITS = 4  # of codes whose sums are taken in two halves
Bits = FloatBits | SoftBits | FixedBits | IntegerBits


class Scaled(NamedTuple):
    """hat * scale: an exact integer tensor (or mixture of such) and its real step."""

    hat: Array
    scale: Array


class Value(NamedTuple):
    """Pre-activations `y`, or in integer mode a function: format -> codes."""

    y: Array | None
    codes: Callable[[CodeFormat], Array] | None = None

    def map(self, function: Callable[[Array], Array]) -> "Value":
        if self.codes is None:
            return Value(function(self.y))
        return Value(None, lambda wanted: function(self.codes(wanted)))


class Network(nn.Module):
    """Run `spec` on images `[N, H, W, C]` (float32 holding 0..255) -> `[N, H', W', M]` float32."""

    spec: NetSpec

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], bits: Bits, train: bool) -> Array:
        spec = self.spec
        check_bits(spec, bits)
        shapes = infer_shapes(spec)
        order = {layer.name: index for index, layer in enumerate(spec.convs)}
        values = {INPUT: Value(images)}
        for layer in spec.layers:
            match layer:
                case ConvSpec():
                    index, channels = order[layer.name], shapes[layer.source][2]
                    values[layer.name] = self._conv(
                        layer, index, channels, values[layer.source], bits, train
                    )
                case PoolSpec():
                    values[layer.name] = values[layer.source].map(max_pool)
                case ReorgSpec():
                    reorg = partial(space_to_depth, block=layer.block)
                    values[layer.name] = values[layer.source].map(reorg)
                case ConcatSpec():
                    values[layer.name] = _concat([values[name] for name in layer.sources])
                case AddSpec():
                    values[layer.name] = _add(layer, *(values[n] for n in layer.sources), bits)
        return values[spec.output.name].y

    def _conv(
        self, layer: ConvSpec, index: int, channels: int, value: Value, bits: Bits, train: bool
    ) -> Value:
        spec, name = self.spec, layer.name
        groups = conv_groups(layer, channels)
        shape = (layer.kernel, layer.kernel, channels // groups, layer.out_channels)
        kernel = self.param(f"{name}_kernel", nn.initializers.he_normal(), shape)
        x = _quantise_input(spec, layer, index, value, bits)
        w = _quantise_weight(spec, layer, index, kernel, bits)
        self.sow("intermediates", f"{name}_input", x.hat)
        if isinstance(bits, IntegerBits) and name in bits.wide:
            acc = _convolve_halves(x.hat, w.hat, layer.stride, groups)
        else:
            acc = convolve(x.hat, w.hat, layer.stride, groups)
        self.sow("intermediates", f"{name}_acc", acc)
        acc = max_pool(acc) if layer.pooled else acc
        scale = x.scale * w.scale
        y = self._norm(layer, acc, scale, train) if layer.norm else acc * scale
        if layer.bias:
            y = y + self.param(f"{name}_bias", nn.initializers.zeros, (layer.out_channels,))
        if isinstance(bits, IntegerBits) and name != spec.output.name:
            integers = acc.astype(jnp.int32)
            return Value(None, lambda wanted: requantise(integers, bits.tables[name, wanted]))
        return Value(y)

    def _norm(self, layer: ConvSpec, acc: Array, scale: Array, train: bool) -> Array:
        size = (layer.out_channels,)
        gamma = self.param(f"{layer.name}_gamma", nn.initializers.ones, size)
        beta = self.param(f"{layer.name}_beta", nn.initializers.zeros, size)
        running = self.variable(
            "batch_stats", layer.name, lambda: BatchStats(jnp.zeros(size), jnp.ones(size))
        )
        if not train:
            return affine(acc, scale, gamma, beta, running.value)
        y, batch = batch_norm(acc, scale, gamma, beta)
        if not self.is_initializing():
            running.value = update(running.value, batch, y.size // layer.out_channels)
        return y


def _convolve_halves(codes: Array, weights: Array, stride: int, groups: int) -> Array:
    """Return int32 sums of integer codes, exact up to 2^31: the upper bits and the lower apart."""
    high = jnp.floor(codes / (1 << HALF_CODE_BITS))
    low = codes - high * (1 << HALF_CODE_BITS)
    upper, lower = (
        convolve(half, weights, stride, groups).astype(jnp.int32) for half in (high, low)
    )
    return (upper << HALF_CODE_BITS) + lower


def _concat(values: list[Value]) -> Value:
    if values[0].codes is None:
        return Value(jnp.concatenate([value.y for value in values], -1))
    return Value(None, lambda wanted: jnp.concatenate([v.codes(wanted) for v in values], -1))


def _add(layer: AddSpec, first: Value, second: Value, bits: Bits) -> Value:
    pairs = list(zip((first, second), layer.grids, strict=True))
    match bits:
        case FloatBits():
            return Value(sum(jax.nn.relu(v.y) if grid.rectified else v.y for v, grid in pairs))
        case IntegerBits():
            sums = sum(value.codes(grid) for value, grid in pairs)
            return Value(None, lambda wanted: requantise(sums, bits.tables[layer.name, wanted]))
        case SoftBits() | FixedBits():
            codes = (quant.grid_code(v.y, grid.step, grid.lo, grid.hi) for v, grid in pairs)
            return Value(sum(codes) * layer.step)


def _constant(value: float) -> Array:
    """A scalar the compiler cannot fold, so that fixed and one-hot widths round alike."""
    return jax.lax.optimization_barrier(jnp.float32(value))


def check_bits(spec: NetSpec, bits: Bits) -> None:
    """Raise BitsError unless `bits` has one width (or row of probabilities) for each layer.

    Fixed widths must keep those that the spec itself fixes.
    """
    if isinstance(bits, FloatBits):
        return
    given = bits.bits if isinstance(bits, IntegerBits) else bits
    if len(given.w) != len(spec.convs):
        raise BitsError(
            f"bits of {len(given.w)} layers for '{spec.name}', which has {len(spec.convs)}"
        )
    if isinstance(given, SoftBits):
        return  # values under tracing; a search pins its logits
    for layer, got in zip(spec.convs, zip(given.w, given.a, strict=True), strict=True):
        if layer.fixed_bits not in (None, got):
            raise BitsError(
                f"layer '{layer.name}' of '{spec.name}' has w, a = {got}; it is fixed to "
                f"{layer.fixed_bits}"
            )


def _quantise_input(spec: NetSpec, layer: ConvSpec, index: int, value: Value, bits: Bits) -> Scaled:
    image = spec.reads_image(layer)
    pixel_levels = spec.quant.pixel_levels
    steps = quant.image_steps(pixel_levels) if image else quant.ACT_STEPS[spec.quant.act_steps]
    match bits:
        case FloatBits():
            if image:
                return Scaled(value.y, _constant(1 / pixel_levels))
            y = jax.nn.relu(value.y)
            y = y if spec.relu_max is None else jnp.minimum(y, spec.relu_max)
            return Scaled(y, _constant(1.0))
        case SoftBits():
            r, scale = quant.mixture(bits.a[index], jnp.array(steps, jnp.float32))
            hat = quant.mix_image(value.y, r) if image else quant.mix_act(value.y, r, steps)
            return Scaled(hat, scale)
        case IntegerBits():
            width = bits.bits.a[index]
            codes = quant.image_code(value.y, width) if image else value.codes(width)
            return Scaled(codes.astype(jnp.float32), _constant(steps[WIDTHS.index(width)]))
        case FixedBits():
            width = bits.a[index]
            choice = WIDTHS.index(width)
            step, levels = steps[choice], float(quant.LEVELS[choice])
            y = value.y
            hat = quant.image_code(y, width) if image else quant.fixed_act(y, step, levels)
            return Scaled(hat, _constant(step))


def _quantise_weight(
    spec: NetSpec, layer: ConvSpec, index: int, kernel: Array, bits: Bits
) -> Scaled:
    if isinstance(bits, IntegerBits):
        codes = jnp.asarray(bits.weights[layer.name], jnp.float32)
        return Scaled(codes, _constant(bits.steps[layer.name]))
    table = quant.WEIGHT_STEPS[spec.quant.weight_steps, spec.quant.narrow]
    narrow = spec.quant.narrow
    kernel, unit = quant.normalise(kernel, spec.quant.weight_steps)
    match bits:
        case FloatBits():
            return Scaled(kernel, _constant(1.0))
        case SoftBits():
            steps = jnp.array(table, jnp.float32) * unit
            r, scale = quant.mixture(bits.w[index], steps)
            return Scaled(quant.mix_weight(kernel, r, steps, narrow), scale)
        case FixedBits():
            width = bits.w[index]
            step = _constant(table[WIDTHS.index(width)]) * unit
            return Scaled(quant.fixed_weight(kernel, step, width, narrow), step)


def init(spec: NetSpec, key: Array) -> dict:
    """Return fresh variables {"params", "batch_stats"} of `spec`."""
    images = jnp.zeros((1, spec.height, spec.width, spec.channels), jnp.float32)
    # Jitted, the forward pass that only names the variables is dropped before it is compiled.
    return jax.jit(lambda key: Network(spec).init(key, images, FloatBits(), False))(key)


def apply(
    spec: NetSpec, variables: dict, images: Float[Array, "n h w c"], bits: Bits, train: bool
) -> tuple[Array, dict]:
    """Run the network; return its output and the batch statistics (updated when training)."""
    if not train:
        return Network(spec).apply(variables, images, bits, False), variables["batch_stats"]
    y, state = Network(spec).apply(variables, images, bits, True, mutable=["batch_stats"])
    return y, state["batch_stats"]


def uniform_bits(spec: NetSpec, w: int, a: int, image: int = 8) -> FixedBits:
    """Return `w`, `a` bits in every layer, `image` bits of the pixels; fixed layers keep theirs."""
    pairs = [
        layer.fixed_bits or (w, image if spec.reads_image(layer) else a) for layer in spec.convs
    ]
    return FixedBits(*zip(*pairs, strict=True))


def alphas_of(spec: NetSpec) -> Alphas:
    """Return fresh logits for the layers of `spec`."""
    return init_alphas(len(spec.convs))
