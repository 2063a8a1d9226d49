"""apex-install: puts the one Apex that fits this pod into place. Standard library only."""

__version__ = "0.1.0"
