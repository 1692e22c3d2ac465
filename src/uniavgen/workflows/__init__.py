"""What one does with the library, without a command line: load a model, generate, continue, export, train, evaluate.

A server, a notebook or a worker calls these functions; `apps/cli` does nothing else. They report through callbacks and
return values, and print nothing.
"""
