"""What Celery publishes as its own integration tests for results and canvas, run on our result backend.

`make celery-suite` fetches the source of the installed Celery, starts a real PostgreSQL, a real Redis as broker, and
lets Celery's tests start their worker. Nothing of the tests is changed; `exclusions` names those that are left out.
"""
