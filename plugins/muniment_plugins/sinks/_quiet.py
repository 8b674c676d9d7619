"""What must the client libraries not log?  Addresses: they hold names of objects, signatures and sessions."""

import logging

_LEVELS = {
    "azure": logging.WARNING,
    "boto3": logging.INFO,
    "botocore": logging.INFO,
    "google": logging.INFO,
    "urllib3": logging.INFO,
}


def quieten() -> None:
    """Raise the level of the libraries' loggers above that of single requests."""
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, level))
