"""Names under which the server's HTTP protocol and the application find each other's parts.

On their own, since gunicorn's arbiter imports the protocol and has no use for the application.
"""

PRESENCE = "presence"
"""In `scope["state"]`: the `app.presence.ConnectionPresence` of the client."""

SHEDDER = "shedder"
"""In the state of the lifespan: the application's `app.shedding.LoadShedder`."""
