# SPDX-License-Identifier: Apache-2.0
"""The product's side of the speed benchmark: its jitted search step on the shared problem.

`python -m experiments.bench_jax --steps N` prints one JSON line; `experiments.bench` drives it over
the pipe with `--serve`.
"""

from collections.abc import Callable
from importlib.metadata import version

import jax
import jax.numpy as jnp

from experiments.bench_problem import Problem, problem
from experiments.bench_worker import Side, worker_main
from mixq_jax import optim, search
from mixq_jax.bits import Alphas
from mixq_jax.data.augment import AugmentConfig
from mixq_jax.loop import Batch, TrainState
from mixq_jax.nets.ultranet import ultranet
from mixq_jax.spec import NetSpec, QuantSpec

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
HORIZON_STEPS = 10**6  # so long that every learning rate stays at its first value


def jax_stepper(start: Problem) -> Callable[[], float]:
    """Return a function that runs one search step, waits for it, and returns its loss.

    Quantisers in the reference's form, no augmentation: `experiments.bench` compares the first
    losses with those of the PyTorch side and refuses to time other mathematics.
    """
    images, height, width = start.images.transpose(0, 2, 3, 1), *start.images.shape[2:]
    spec = ultranet(height, width, QuantSpec(False, "reference", "reference"))
    config = search.SearchConfig(HORIZON_STEPS, len(images), augment=AugmentConfig(flip=0.0))
    step = jax.jit(search.make_step(spec, config, start.cost_table[..., None]), donate_argnums=0)
    batch = Batch(*map(jnp.asarray, (images * 256, start.boxes, start.image_weights)))
    hyper = search.Hyper(jnp.full(1, start.recipe.cost_gain), jnp.float32(1), jnp.float32(1))
    state = initial_state(spec, config, start)

    def run() -> float:
        nonlocal state
        state, metrics = jax.block_until_ready(step(state, batch, hyper))
        return float(metrics.total)

    return run


def initial_state(spec: NetSpec, config: search.SearchConfig, start: Problem) -> TrainState:
    """Return the state of a search that starts from the problem's kernels, bias and alphas."""
    fresh = search.init_state(spec, config)
    kernels = {
        f"{conv.name}_kernel": jnp.asarray(kernel.transpose(2, 3, 1, 0))
        for conv, kernel in zip(spec.convs, start.kernels, strict=True)
    }
    head_bias = {f"{spec.output.name}_bias": jnp.asarray(start.head_bias)}
    alphas = Alphas(jnp.asarray(start.alpha_w), jnp.asarray(start.alpha_a))
    params = {"net": {**fresh.params["net"], **kernels, **head_bias}, "alphas": alphas}
    opt_state = optim.make(config.optim, config.steps).init(params)
    return fresh._replace(params=params, opt_state=opt_state)


def make_side(threads: int) -> Side:
    """Build the product's side; XLA has as many threads as this process has CPUs."""
    return Side({name: version(name) for name in PACKAGES}, threads, jax_stepper(problem()))


if __name__ == "__main__":
    worker_main(make_side, "Time the product's search step.")
