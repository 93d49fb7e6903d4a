"""Who holds a key: the port and its adapters."""
