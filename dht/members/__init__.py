"""Who is in the cluster, as far as one node knows. Pure."""
