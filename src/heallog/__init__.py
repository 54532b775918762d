"""HealLog: versioned medical records for apps that must keep working offline."""

__version__ = "0.1.0"
