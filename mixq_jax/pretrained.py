# SPDX-License-Identifier: Apache-2.0
"""Variables of a network from the tensors of a PyTorch state dict.

Layers are matched in order: every tensor of two or four dimensions is the next convolution, running
statistics belong to the last one. Layouts: `[out, in, k, k]` -> `[k, k, in, out]`; the columns of a
dense layer, which PyTorch flattens as (channel, row, column), go to (row, column, channel).
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from mixq_jax.norm import BatchStats
from mixq_jax.spec import ConvSpec, NetSpec, ReorgSpec, conv_groups, infer_shapes

# Counters and sizes that training programs register as buffers; no network needs them.
MIXQ_BUFFERS = ("size_product", "memory_size")  # of DeepBurning-MixQ's quantised layers
IGNORED = ("num_batches_tracked", *MIXQ_BUFFERS)
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}


class PretrainedError(ValueError):
    """Tensors that do not fit the network; the message names the tensor or the layer."""


def has_mixq_layers(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the buffers are those that only DeepBurning-MixQ's quantised layers register."""
    return any(name.rpartition(".")[2] in MIXQ_BUFFERS for name in tensors)


def to_variables(spec: NetSpec, tensors: Mapping[str, np.ndarray]) -> dict:
    """Return {"params", "batch_stats"} of `spec` with the values of `tensors`.

    Raises PretrainedError for a tensor that belongs to no layer, a layer without its tensors and a
    shape or a value that does not fit.
    """
    params, stats, convs = {}, {}, list(spec.convs)
    for module, fields in _by_module(tensors).items():
        if "running_mean" in fields:
            _take_norm(spec, module, fields, len(spec.convs) - len(convs), params, stats)
        else:
            if not convs:
                raise PretrainedError(
                    f"'{module}' is one layer too many: '{spec.name}' has {len(spec.convs)}"
                )
            _take_conv(spec, convs.pop(0), module, fields, params)
    _check_complete(spec, params)
    return {"params": params, "batch_stats": stats}


def _by_module(tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the tensors of every module, in order, by the last part of their names."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, value in tensors.items():
        module, _, field = name.rpartition(".")
        if field in IGNORED:
            continue
        if field not in _NORM:
            raise PretrainedError(
                f"tensor '{name}' {value.shape} is neither weight, bias nor running statistics; "
                "nothing of the network reads it"
            )
        with np.errstate(over="ignore"):  # checked next
            value = np.asarray(value, np.float32)
        if not np.isfinite(value).all():
            raise PretrainedError(f"tensor '{name}' holds values beyond float32 or no numbers")
        if field == "running_var" and (value < 0).any():
            raise PretrainedError(f"tensor '{name}' holds {value.min():g}, a negative variance")
        modules.setdefault(module, {})[field] = value
    return modules


def _take_conv(
    spec: NetSpec, layer: ConvSpec, module: str, fields: dict[str, np.ndarray], params: dict
) -> None:
    if "weight" not in fields or fields["weight"].ndim not in (2, 4):
        raise PretrainedError(f"'{module}' has no weight of two or four dimensions")
    weight = fields["weight"]
    if weight.ndim == 2:
        weight = _dense(spec, layer, module, weight)
    shape = kernel_shape(spec, layer)
    kernel = weight.transpose(2, 3, 1, 0)
    if kernel.shape != shape:
        raise PretrainedError(
            f"'{module}.weight' is {weight.shape}; layer '{layer.name}' of '{spec.name}' needs "
            f"{(shape[3], shape[2], shape[0], shape[1])}"
        )
    params[f"{layer.name}_kernel"] = jnp.asarray(kernel)
    if layer.bias != ("bias" in fields):
        has = "has a" if "bias" in fields else "has no"
        raise PretrainedError(f"'{module}' {has} bias; layer '{layer.name}' is the other way")
    if layer.bias:
        params[f"{layer.name}_bias"] = jnp.asarray(fields["bias"])


def _dense(spec: NetSpec, layer: ConvSpec, module: str, weight: np.ndarray) -> np.ndarray:
    """Return a dense layer's weights as those of the 1x1 convolution on the flattened map."""
    flat = next((other for other in spec.layers if other.name == layer.source), None)
    if not isinstance(flat, ReorgSpec):
        return weight[:, :, None, None]
    height, width, channels = infer_shapes(spec)[flat.source]
    if weight.shape[1] != height * width * channels:
        raise PretrainedError(
            f"'{module}.weight' has {weight.shape[1]} columns; '{flat.name}' flattens "
            f"{height}x{width}x{channels}"
        )
    mapped = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return mapped.reshape(len(weight), -1)[:, :, None, None]


def _take_norm(
    spec: NetSpec,
    module: str,
    fields: dict[str, np.ndarray],
    done: int,
    params: dict,
    stats: dict,
) -> None:
    layer = spec.convs[done - 1] if done else None
    if layer is None or not layer.norm or layer.name in stats:
        raise PretrainedError(
            f"batch norm '{module}' follows no layer of '{spec.name}' that has one"
        )
    missing = sorted(_NORM.keys() - fields.keys())
    if missing:
        raise PretrainedError(f"batch norm '{module}' has no {', '.join(missing)}")
    for field, value in fields.items():
        if value.shape != (layer.out_channels,):
            raise PretrainedError(
                f"'{module}.{field}' is {value.shape}; layer '{layer.name}' has "
                f"{layer.out_channels} channels"
            )
    gamma, beta, mean, var = (jnp.asarray(fields[field]) for field in _NORM)
    params[f"{layer.name}_gamma"], params[f"{layer.name}_beta"] = gamma, beta
    stats[layer.name] = BatchStats(mean, var)


def kernel_shape(spec: NetSpec, layer: ConvSpec) -> tuple[int, int, int, int]:
    """Return `[k, k, in / groups, out]` of a layer's weights."""
    channels = infer_shapes(spec)[layer.source][2]
    groups = conv_groups(layer, channels)
    return layer.kernel, layer.kernel, channels // groups, layer.out_channels


def _check_complete(spec: NetSpec, params: dict) -> None:
    for layer in spec.convs:
        if f"{layer.name}_kernel" not in params:
            raise PretrainedError(f"the file has no weights for layer '{layer.name}'")
        if layer.norm and f"{layer.name}_gamma" not in params:
            raise PretrainedError(f"the file has no batch norm for layer '{layer.name}'")
