"""The agent of a polling site. Its version is the project's."""

__version__ = "0.1.0"
