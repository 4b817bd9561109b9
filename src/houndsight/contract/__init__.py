"""The SageMaker training contract: what a script written for script mode finds, and what becomes of it."""
