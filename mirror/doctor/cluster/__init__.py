"""What is wrong in a Kubernetes cluster that runs the daemons, as its API and the daemons themselves tell it."""
