"""The wheel farm: compiles Apex for each cell, tests each wheel, publishes it to an index."""
