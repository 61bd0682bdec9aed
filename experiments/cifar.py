# SPDX-License-Identifier: Apache-2.0
"""Search, train, integerise, generate and simulate a classifier for CIFAR-10 (or MNIST).

`python -m experiments.cifar --data DIR` runs everything and ends with a report.
"""

import sys

from experiments.classification_options import ClassificationOptions
from experiments.command_line import Program, end, main

PROGRAM = Program(__doc__, ClassificationOptions)

if __name__ == "__main__":
    end(main(PROGRAM, sys.argv[1:]))
