"""A service that separates recordings: an API for jobs, a page, worker processes; see docs/serving.md."""
