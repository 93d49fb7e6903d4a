"""The registries that image names point to, as this host may reach them."""
