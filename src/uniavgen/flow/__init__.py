"""Rectified flow: path, schedule, solver, guidance, and the sampling loop over a callable."""
