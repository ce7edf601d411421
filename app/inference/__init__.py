"""Models and the engine that runs them. No web, no SQL, no settings: plain values only."""
