"""FormatError: the one error that bytes which are not a well-formed file can cause."""


class FormatError(ValueError):
    """The bytes are not a .sws file that this build reads; the message says what is wrong."""
