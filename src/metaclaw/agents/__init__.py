"""One small module for each agent program: how it is wired to the gateway, and how that is undone.

Empty in this release: point any OpenAI-compatible client at the gateway by hand.
"""
