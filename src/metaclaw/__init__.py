"""MetaClaw: a learning layer for personal AI agents."""

__version__ = "0.1.0"
