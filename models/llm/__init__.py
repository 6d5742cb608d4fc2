"""Language models: messages in, a stream of text out."""
