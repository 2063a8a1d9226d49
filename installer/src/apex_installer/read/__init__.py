"""What is there: torch's files, GPUs and driver, ELF symbols, machine code in fat binaries."""
