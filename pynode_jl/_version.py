"""The version, here alone: the package's metadata and run folders read it from this file."""

__version__ = "0.1.0"
