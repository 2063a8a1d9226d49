"""`doctor SUBJECT`: any module, package, wheel or address, by reading; nothing of it is run."""
