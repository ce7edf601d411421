"""What was predicted, for whom, and what people said of it."""
