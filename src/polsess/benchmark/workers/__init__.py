"""What runs in processes of its own: a network that is loaded once and timed on request.

``measuring`` and ``networks`` need torch and the standard library only, so that ``peer.py`` also runs in an
environment that knows nothing of this library.
"""
