"""lbctl's program in the guest: it checks, applies and reports. `../README.md` says more.

Python 3.10 or newer, standard library only."""
