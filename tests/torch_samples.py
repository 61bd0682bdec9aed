# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as training programs save them, of any network, without PyTorch."""

import pickle
import zipfile
from pathlib import Path

import numpy as np

from mixq_jax.spec import NetSpec


def state_dict(spec: NetSpec, variables: dict) -> dict[str, np.ndarray]:
    """Return the tensors of a network in the layouts of PyTorch.

    (Columns of a flattened map stay as they are: what is written is some network, not `spec`'s.)
    """
    params, state = variables["params"], {}
    for layer in spec.convs:
        kernel = np.asarray(params[f"{layer.name}_kernel"])
        if not layer.norm and layer.kernel == 1:
            state[f"{layer.name}.weight"] = kernel[0, 0].T.copy()
        else:
            state[f"{layer.name}.weight"] = kernel.transpose(3, 2, 0, 1).copy()
        if layer.bias:
            state[f"{layer.name}.bias"] = np.asarray(params[f"{layer.name}_bias"])
        if layer.norm:
            stats = variables["batch_stats"][layer.name]
            state |= {
                f"{layer.name}_bn.weight": np.asarray(params[f"{layer.name}_gamma"]),
                f"{layer.name}_bn.bias": np.asarray(params[f"{layer.name}_beta"]),
                f"{layer.name}_bn.running_mean": np.asarray(stats.mean),
                f"{layer.name}_bn.running_var": np.asarray(stats.var),
            }
    return state


def write(path: Path, state: dict[str, np.ndarray], w: str = "", a: str = "") -> Path:
    """Write a state dict, with widths where they are given (digits, one a layer)."""
    rows = {"bitw": [int(bits) for bits in w], "bita": [int(bits) for bits in a]}
    widths = {key: row for key, row in rows.items() if row}
    document = {"model": state} | ({"model_params": widths} if widths else {})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(document, 2))
    return path
