"""Reports as one page of HTML, which opens from disk without a network: its look, its players, its file."""
