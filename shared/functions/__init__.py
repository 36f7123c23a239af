"""Where Azure Functions ends and the proxy begins: the HTTP extension, and what its worker needs."""
