"""The district's control room: takes in what sites tell, stores it, judges, shows it."""

from importlib.metadata import version

__version__ = version("jaga")
