"""A typed asyncio client of containerd that has never heard of peers."""
