# SPDX-License-Identifier: Apache-2.0
"""`python -m hw`: the hardware half from the command line. A user's mistake is one line, exit 2."""

import argparse
import json
import os
import sys
from pathlib import Path

from hw.device import DSPS
from hw.packing.decoding import ASKED
from hw.packing.plan import PackError, PackPlan

INTERRUPTED = 130
PROOFS = ("rules", "emulation", "z3")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str):
        raise PackError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """Return the command line of `python -m hw`."""
    root = _Parser(prog="python -m hw", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    packing = commands.add_parser(
        "packing",
        help="rates and plans of DSP packing, 2..8 x 2..8 bits",
        description="Print the fastest plan of every pair of widths 2..8: a table of MACs per DSP "
        "and cycle beside the published one, or the plans themselves. Weights are signed, "
        "activations unsigned codes (signed ones enter as value + 2^(bits - 1)).",
    )
    packing.add_argument("--dsp", default="dsp48e2", help=f"one of {', '.join(sorted(DSPS))}")
    packing.add_argument("--kernel", type=int, default=3, help="kernel side: 1, 3, 5 or 7")
    packing.add_argument("--mode", choices=ASKED, default="best", help="when P is decoded")
    packing.add_argument("--chain", type=int, default=1, help="products P must hold, at least")
    packing.add_argument(
        "--known-bits", type=int, default=2, help="known low bits, at most; 3 and 4: canary only"
    )
    packing.add_argument("--narrow", action="store_true", help="weights without -2^(b-1)")
    packing.add_argument(
        "--proof",
        choices=PROOFS,
        default="rules",
        help="how every plan is proven: the rules in exact integers, emulated operands as well, or "
        "the decoders' formulas by z3 (extra 'proof')",
    )
    output = packing.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print every plan as JSON")
    output.add_argument("--png", type=Path, help="write a heat map beside the published table")
    return root


def packing(options: argparse.Namespace) -> str:
    """Return the text that `packing` prints; write the heat map if one is asked for."""
    from hw.packing.heatmap import write_heatmap
    from hw.packing.listing import as_json, as_text
    from hw.packing.search import best_plans

    if options.png is not None and not options.png.absolute().parent.is_dir():
        raise PackError(f"--png {options.png}: there is no folder {options.png.parent}")
    cells = best_plans(
        options.dsp,
        options.kernel,
        narrow=options.narrow,
        mode=options.mode,
        chain=options.chain,
        known_bits=options.known_bits,
    )
    cells = {bits: _proven(plan, options.proof) for bits, plan in cells.items()}
    if options.png is not None:
        write_heatmap(options.png, cells, options.mode)
    if options.json:
        return "[\n" + ",\n".join(json.dumps(as_json(plan)) for plan in cells.values()) + "\n]"
    return as_text(cells, options.mode)


def _proven(plan: PackPlan, proof: str) -> PackPlan:
    """Return a plan, whose rules are proven already, with the proof asked for."""
    from hw.packing.prove import prove
    from hw.packing.smt import smt

    match proof:
        case "emulation":
            return prove(plan)
        case "z3":
            return smt(plan)
        case _:
            return plan


def main(arguments: list[str]) -> int:
    """Run a command line; return the exit code (0, 2 for a user's error, 130 for Ctrl-C)."""
    try:
        print(packing(parser().parse_args(arguments)), flush=True)
    except BrokenPipeError:  # the reader has seen enough; nothing is left for the flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
