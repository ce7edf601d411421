"""The browser front end: static files that talk to the API as any other client."""
