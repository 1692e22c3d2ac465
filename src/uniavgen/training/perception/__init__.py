"""Training of the perception networks of our own on clips of the synthetic world."""
