"""`python -m wheelbuild`."""

import sys

from wheelbuild.cli import main

if __name__ == "__main__":
    sys.exit(main())
