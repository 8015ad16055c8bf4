"""Collections in a vector database: in a file of this machine, on a server, or on a cluster."""
