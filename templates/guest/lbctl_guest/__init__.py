"""lbctl's program in the guest: it checks, applies and reports.

Python 3.10 or newer, standard library only."""
