"""The wheel index as a pure function: entries in, the bytes of every page out."""
