"""Models: one interface each for embedders and language models, one file per backend."""
