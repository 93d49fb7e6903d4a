"""The vocabulary of the OCI specifications: digests, ranges, paths, media types, error codes. Pure."""
