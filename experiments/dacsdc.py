# SPDX-License-Identifier: Apache-2.0
"""Search, train, integerise, generate and simulate a detector for the DAC System Design Contest.

`python -m experiments.dacsdc` runs everything on a generated data set and ends with a report.
"""

import sys

from experiments.command_line import Program, end, main
from experiments.detection_options import DetectionOptions

PROGRAM = Program(__doc__, DetectionOptions)

if __name__ == "__main__":
    end(main(PROGRAM, sys.argv[1:]))
