"""`python -m apex_installer` and the entry point of the zipapp."""

import sys

from apex_installer.cli import main

if __name__ == "__main__":
    sys.exit(main())
