"""Into place: unpack and verify, swap with a journal, receipt, remove."""
