"""The web page at /ui: the same jobs as the API's, with a tab a task, for people who never open a shell.

`mount` adds it to the application, `visitor` says whose browser asks, `forms` are the tabs, `clip_view` shows a
job, `actions` what buttons do, `layout` puts them together. Gradio draws it; the queue is the server's own.
"""
