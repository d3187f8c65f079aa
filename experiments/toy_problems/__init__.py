"""Five networks that are surer than they are right, each by a cause of its own, and their cures."""
