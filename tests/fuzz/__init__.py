"""Fuzzing led by coverage (atheris): `make fuzz`, or in tests/: `python -m fuzz`."""
