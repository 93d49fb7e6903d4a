"""What this host does for one digest while nobody has it whole: steer, wait, be fed, hand over. Pure."""
