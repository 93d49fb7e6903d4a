"""A plain host, without Kubernetes: what `peili up` finds there, changes, and gives back."""
