# SPDX-License-Identifier: Apache-2.0
"""Run folders as the stages write them, with invented but plausible numbers."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

LAYERS = tuple(f"conv{index}" for index in range(9))
FOUND_W = (5, 4, 3, 3, 3, 4, 3, 4, 5)
FOUND_A = (7, 4, 4, 4, 3, 4, 3, 4, 4)
BITS = {name: [w, a] for name, w, a in zip(LAYERS, FOUND_W, FOUND_A, strict=True)}
REFERENCE = "w 444444444 a 844444444"
WIDTHS = np.arange(2, 9)
STAGES = ("search", "train", "test", "export", "simulate")
HEIGHT, WIDTH = 80, 160

CARD = {
    "schema": 2,
    "program": "dacsdc",
    "score": "iou",
    "preset": "demo",
    "options": {"preset": "demo", "data": None, "device": "xczu3eg", "clock_mhz": 250.0, "seed": 0},
    "recipe": {"search_steps": 500, "train_steps": 1400, "relaxation": "gumbel", "lam": 0.002},
    "versions": {
        "mixq-jax": "0.1.0",
        "jax": "0.10.2",
        "flax": "0.12.8",
        "optax": "0.2.8",
        "numpy": "2.4.6",
        "hls4ml": "1.3.0",
        "python": "3.11.2",
    },
    "network": {
        "name": "ultranet",
        "height": HEIGHT,
        "width": WIDTH,
        "layers": list(LAYERS),
        "fixed": [],
    },
    "device": {
        "name": "xczu3eg",
        "part": "xczu3eg-sbva484-1-e",
        "dsp": 360,
        "lut": 70560,
        "ff": 141120,
        "bram18": 432,
        "clock_mhz": 250.0,
    },
    "data": {
        "source": "generated",
        "note": "",
        "classes": [],
        "train_frames": 4000,
        "test_frames": 400,
    },
}


def write_run(out: Path, stages: Iterable[str] = STAGES, steps: int = 60) -> Path:
    """Write a run in which `stages` are finished; search and training took `steps` steps."""
    writers = {
        "search": write_search,
        "train": write_train,
        "test": write_test,
        "export": write_export,
        "simulate": write_simulate,
    }
    write_json(out / "run.json", CARD)
    for stage in stages:
        writers[stage](out / stage, steps)
    return out


def write_json(path: Path, document: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def write_lines(path: Path, documents: Iterable[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def write_search(folder: Path, steps: int) -> None:
    rng = np.random.default_rng(0)
    write_lines(folder / "metrics.jsonl", search_lines(rng, steps))
    reference = cost((4,) * 9, (8, *(4,) * 8))
    result = {
        "bits": BITS,
        "cost": cost(FOUND_W, FOUND_A),
        "reference_cost": {REFERENCE: reference},
    }
    write_json(folder / "result.json", result | {"seconds": 61.3})


def search_lines(rng: np.random.Generator, steps: int) -> list[dict]:
    """Alphas drift from uniform to the found widths; late layers later."""
    pull = np.array([1 / (1 + np.abs(WIDTHS - w)) for w in (*FOUND_W, *FOUND_A)])
    noise = np.cumsum(rng.normal(0, 0.5 / steps**0.5, (steps, 18, 7)), 0)
    noise[-1] *= 0.2
    start = np.tile(np.linspace(0.0, 0.45, 9), 2)[:, None]
    lines = []
    for step in range(steps):
        progress = step / max(steps - 1, 1)
        alpha = 3 * np.clip(progress - start, 0, 1) * pull + noise[step] * progress
        tau = 2.0 * 0.15**progress
        probability = softmax(alpha / tau)
        expected = (probability * WIDTHS).sum(-1)
        entropy = -(probability * np.log(probability + 1e-12)).sum(-1)
        argmax = WIDTHS[alpha.argmax(-1)]
        task = 2 + 9 * np.exp(-4 * progress) * rng.lognormal(0, 0.15)
        lines.append(
            {
                "step": step,
                "total": task + 0.2,
                "task": task,
                "box": 0.55 * task,
                "objectness": 0.45 * task,
                "cost": cost(expected[:9], expected[9:]),
                "argmax_cost": cost(argmax[:9], argmax[9:]),
                "tau": tau,
                "alpha_w": alpha[:9].tolist(),
                "alpha_a": alpha[9:].tolist(),
                "entropy_w": entropy[:9].tolist(),
                "entropy_a": entropy[9:].tolist(),
                "expected_w": expected[:9].tolist(),
                "expected_a": expected[9:].tolist(),
                "argmax_w": argmax[:9].tolist(),
                "argmax_a": argmax[9:].tolist(),
            }
        )
    return lines


def cost(w: Iterable[float], a: Iterable[float]) -> dict[str, float]:
    w, a = np.asarray(w, float), np.asarray(a, float)
    return {
        "dsp": float((w * a).sum() * 0.62),
        "bitops": float((w * a).sum() * 1.2),
        "bram": float((w + a).sum() * 0.8),
    }


def write_train(folder: Path, steps: int) -> None:
    rng = np.random.default_rng(1)
    progress = np.linspace(0, 1, steps)
    box = (0.6 + 4 * np.exp(-5 * progress)) * rng.lognormal(0, 0.2, steps)
    objectness = (0.4 + 3 * np.exp(-6 * progress)) * rng.lognormal(0, 0.2, steps)
    write_lines(
        folder / "metrics.jsonl",
        (
            {"step": step, "total": float(b + o), "box": float(b), "objectness": float(o)}
            for step, (b, o) in enumerate(zip(box, objectness, strict=True))
        ),
    )
    marks = np.unique(np.linspace(steps / 12, steps, 12).astype(int))
    iou = 0.70 * (1 - np.exp(-4 * marks / steps))
    points = ({"step": int(s), "score": float(v)} for s, v in zip(marks, iou, strict=True))
    write_lines(folder / "score.jsonl", points)
    result = {"bits": BITS, "warm_start": True, "steps": steps, "seconds": 148.2}
    write_json(folder / "result.json", result)


def write_test(folder: Path, _steps: int) -> None:
    result = {
        "frames": 400,
        "score_name": "iou",
        "score": {"float": 0.7182, "quant": 0.6967, "integer": 0.6962, "constant": 0.1734},
        "score_error": {"float": 0.0121, "quant": 0.0123, "integer": 0.0124},
        "differences": {name: [37 * index, 409600] for index, name in enumerate(LAYERS)},
        "seconds": 9.8,
    }
    write_json(folder / "result.json", result)
    np.savez(folder / "samples.npz", **detections())


def detections(frames: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    size = rng.uniform([0.06, 0.1], [0.16, 0.26], (frames, 2))
    centre = rng.uniform(0.15, 0.85, (frames, 2))
    truth = np.concatenate([centre, size], 1).astype(np.float32)
    error = np.linspace(0.01, 0.5, frames)[:, None] * np.tile(size, 2)
    predicted = (truth + error * rng.uniform(-1, 1, (frames, 4))).astype(np.float32)
    return {
        "images": np.stack([scene(rng, box) for box in truth]),
        "truth": truth,
        "predicted": predicted,
        "score": np.linspace(0.93, 0.12, frames, dtype=np.float32),
        "confidence": np.linspace(0.98, 0.35, frames, dtype=np.float32),
    }


def scene(rng: np.random.Generator, box: np.ndarray) -> np.ndarray:
    """A sky, a meadow and an ellipse that fills the box, in BGR."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    horizon = rng.integers(25, 55)
    image = np.where((y < horizon)[..., None], (214, 190, 160), (70, 120, 96)).astype(float)
    image += 12 * np.sin(x / rng.uniform(3, 9))[..., None] + rng.normal(0, 7, image.shape)
    cx, cy, w, h = box * (WIDTH, HEIGHT, WIDTH, HEIGHT)
    inside = ((x - cx) / (w / 2)) ** 2 + ((y - cy) / (h / 2)) ** 2 <= 1
    image[inside] = rng.integers(20, 236, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_export(folder: Path, _steps: int) -> None:
    digest = "5f0e6c0bb9f54bdc8a31f6b4f2d9a7c1e0d3b5a79784c6f1d2e3a4b5c6d7e8f9"
    write_json(
        folder / "result.json", {"files": 38, "bytes": 812_455, "digest": digest, "seconds": 2.4}
    )


def write_simulate(folder: Path, _steps: int) -> None:
    interval = 46_240
    load = (0.91, 1.0, 0.88, 0.97, 0.52, 0.52, 0.52, 0.52, 0.13)
    layers = [layer(index, int(load[index] * interval)) for index in range(9)]
    result = {
        "csim": {
            "frames": 4,
            "mismatches": 0,
            "first_mismatch": None,
            "seconds": 3.1,
            "compile_seconds": 21.4,
            "compared": "all integers of all layers",
        },
        "cycles": {
            "frames": 3,
            "interval": interval,
            "latency": 152_018,
            "bottleneck": "conv1_mac",
            "fps_at_clock": 250e6 / interval,
            "per_process": processes(layers, interval),
            "fifos": fifos(),
        },
        "resources": {
            "dsp": sum(layer["dsp"] for layer in layers),
            "lut": 41_870,
            "lut_low": 16_748,
            "lut_high": 66_992,
            "ff": 51_200,
            "ff_low": 20_480,
            "ff_high": 81_920,
            "bram18": 148,
            "bram18_low": 148,
            "bram18_high": 148,
        },
        "layers": layers,
        "seconds": 31.7,
    }
    write_json(folder / "result.json", result)


def layer(index: int, mac_cycles: int) -> dict:
    pe, simd, dsp = ((8, 3, 38), (16, 8, 72), (8, 8, 64), (4, 8, 40), *[(2, 8, 20)] * 4, (1, 4, 4))[
        index
    ]
    return {
        "name": LAYERS[index],
        "w": FOUND_W[index],
        "a": FOUND_A[index],
        "pe": pe,
        "simd": simd,
        "kernel_rows": 3 if index < 3 else 1,
        "requant_lanes": 2 if index < 2 else 1,
        "macs_per_dsp": (2.0, 4.5, 6.0)[index % 3],
        "groups": 1 + index % 2,
        "columns": (2, 3, 4)[index % 3],
        "word_steps": (3, 2, 1)[index % 3],
        "mode": ("every", "chain", "canary")[index % 3],
        "known_bits": index % 3,
        "chain": simd,
        "dsp": dsp,
        "mac_cycles": mac_cycles,
        "lut": 2900 + 410 * index,
        "bram18": 6 + 4 * index,
    }


def processes(layers: list[dict], interval: int) -> dict[str, dict[str, int]]:
    table = {"input": HEIGHT * WIDTH, "output": 1_320}
    for this, after in zip(layers, (*LAYERS[1:], None), strict=True):
        name, cycles = this["name"], this["mac_cycles"]
        table |= {f"{name}_window": int(cycles * 0.98), f"{name}_mac": cycles}
        if after:
            table[f"{name}_for_{after}"] = int(cycles * 0.7)
    return {
        name: {
            "closed_form": cycles,
            "busy": 3 * cycles,
            "stall_input": (interval - cycles) * 2 + 400,
            "stall_output": (interval - cycles) // 2,
        }
        for name, cycles in table.items()
    }


def fifos() -> dict[str, dict[str, int]]:
    table = {"input_to_conv0_window": {"depth": 160, "latency": 6, "peak": 97}}
    for index, name in enumerate(LAYERS):
        table[f"{name}_window_to_mac"] = {"depth": 2, "latency": 6, "peak": 2}
        table[f"{name}_mac_to_next"] = {"depth": 2, "latency": 6, "peak": 1 + index % 2}
        table[f"{name}_row"] = {
            "depth": 320 >> (index // 3),
            "latency": 6,
            "peak": 200 >> (index // 2),
        }
    return table
