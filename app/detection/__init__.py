"""The REST and WebSocket doors of the object detector."""
