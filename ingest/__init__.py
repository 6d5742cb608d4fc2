"""From an uploaded file to searchable indexes: parse, chunk, summarise, embed, index."""
