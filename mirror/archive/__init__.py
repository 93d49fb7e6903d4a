"""Images in archives: OCI layouts and what docker save writes, in and out of the stores of this host."""
