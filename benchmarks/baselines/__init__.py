"""What the service is compared with, each a process of its own. None of them imports `app`."""
