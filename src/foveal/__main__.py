"""`python -m foveal` is the command `foveal`, for whoever has several interpreters."""

import sys

from foveal.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
