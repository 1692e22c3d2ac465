"""The HTTP server: jobs that make clips, in the words of OpenAI's video API, and what keeps them safe and fair.

`command` starts it, `api` has the routes, `scheduler` runs jobs of `job_store` in the process of `device_worker`.
"""
