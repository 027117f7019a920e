"""The error of a certificate that cannot be."""


class NotCertifiable(ValueError):
    """An assumption of a certificate does not hold, so that nothing is proved."""
