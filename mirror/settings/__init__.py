"""What the commands can be told, from one table: flags, environment variables, defaults, documentation."""
