"""What tests of different parts share: waiting, ports, files. No fixtures."""
