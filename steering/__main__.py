"""Runs the command line: `python -m steering`."""

import sys

from steering.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
