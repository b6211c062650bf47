"""What transports over sockets have in common: an end of an edge, and a transport made of such ends."""
