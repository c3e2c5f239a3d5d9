"""What is answered over HTTP, as plain functions from a request to a response; no sockets and no Trio."""
