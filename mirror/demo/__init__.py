"""`peili demo`: daemons on loopback, an origin behind a slow link, pulls that are counted, and the sums."""
