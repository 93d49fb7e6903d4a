"""What stands in a datagram: the envelope, the frames inside, and what keeps strangers out."""
