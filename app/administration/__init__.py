"""What administrators do with other people's accounts."""
