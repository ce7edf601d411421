"""Scripts that make the artifacts in models/. The service never imports this package."""
