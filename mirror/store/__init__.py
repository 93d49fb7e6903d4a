"""Where blobs stand on this host: the port and its adapters."""
