"""How good is it? Measurements on data sets, each a program: `python -m benchmarks.NAME FOLDER`."""
