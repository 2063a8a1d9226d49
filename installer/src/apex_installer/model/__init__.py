"""Pure values: what is wanted, what is published, what is there, what happened."""
