# SPDX-License-Identifier: Apache-2.0
"""Detection data: the contest's format, a generated stand-in, augmentation.

`mixq_jax.data.augment` is imported by its name: reading data needs no JAX.
"""

from mixq_jax.data.annotations import DataError, Sample, scan
from mixq_jax.data.dacsdc import Dataset, Progress, load
from mixq_jax.data.scene import SceneConfig
from mixq_jax.data.synthetic import SyntheticConfig, generate

__all__ = [
    "DataError",
    "Dataset",
    "Progress",
    "Sample",
    "SceneConfig",
    "SyntheticConfig",
    "generate",
    "load",
    "scan",
]
