"""One door for each thing outside: the clock, the CA's folder, cryptography."""
