"""The lab's error: one line for whoever runs it."""


class LabError(Exception):
    """The lab cannot do what was asked; the message says what to do next."""
