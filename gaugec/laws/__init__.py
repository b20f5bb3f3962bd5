"""What is true of functions, proved by sympy. Results leave as expressions of our own; sympy stays here."""
