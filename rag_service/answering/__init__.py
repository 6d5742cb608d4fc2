"""From a question to a cited answer: `pipeline` is the whole flow, every other file one stage of it."""
