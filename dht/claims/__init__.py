"""The short-lived right to fetch a key from elsewhere: the arbiter, and who asks it. Pure."""
