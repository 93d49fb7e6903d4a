"""A Kademlia provider-record DHT that has never heard of OCI."""
