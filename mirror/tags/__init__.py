"""Which answer this host may give for a tag, and what it knows of tags."""
