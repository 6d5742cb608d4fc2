"""What runs: the API, the answering pipeline, the command line, and the wiring that builds them."""
