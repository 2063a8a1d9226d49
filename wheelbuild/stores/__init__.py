"""Where an index lies. A new place is one file here that keeps the promises of `Store`."""
