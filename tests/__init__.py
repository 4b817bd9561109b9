"""The tests: one folder a sub-package, and the rules of the house."""
