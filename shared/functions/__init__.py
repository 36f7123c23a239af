"""The edge to Azure Functions: the HTTP extension, and settings of the worker's process."""
