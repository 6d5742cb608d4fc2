"""From candidates to what the model reads: reranking, ordering, compression."""
