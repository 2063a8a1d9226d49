"""Where a cell is built: an interpreter, an environment with the cell's torch, a front end."""
