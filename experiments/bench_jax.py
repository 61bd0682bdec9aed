# SPDX-License-Identifier: Apache-2.0
"""The product's side of the speed benchmark: its jitted search step on the shared problem.

`python -m experiments.bench_jax --steps N` prints one JSON line; `experiments.bench` drives it over
the pipe with `--serve`.
"""

from collections.abc import Callable
from importlib.metadata import version

from experiments.bench_problem import Problem, problem
from experiments.bench_worker import Side, worker_main

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def jax_stepper(batch: Problem) -> Callable[[], float]:
    """Return a function that runs one search step, blocks until it is done, and returns its loss.

    The step starts from the images, targets, kernels, alphas and cost table of `batch` (arrays are
    NCHW and OIHW), quantises in the reference's form (full weight range, published steps), mixes by
    softmax at temperature 1 and follows `batch.recipe`. The loss is the one before the update. The
    state stays on the device; the step returns only when it is updated too. `experiments.bench`
    compares the first losses with those of the PyTorch side and refuses to time other mathematics.
    """
    raise NotImplementedError(
        "experiments.bench_jax.jax_stepper is not connected: mixq_jax.search.make_step is missing"
    )


def make_side(threads: int) -> Side:
    """Build the product's side; XLA has as many threads as this process has CPUs."""
    return Side({name: version(name) for name in PACKAGES}, threads, jax_stepper(problem()))


if __name__ == "__main__":
    worker_main(make_side, "Time the product's search step.")
