"""What this host tells the cluster that it holds."""
