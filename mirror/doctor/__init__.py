"""What is wrong on this host, the evidence, and the mend."""
