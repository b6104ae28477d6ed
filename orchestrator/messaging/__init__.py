"""Committed steps become Celery messages and travel."""
