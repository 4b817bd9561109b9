"""SageMaker scripts that answer for a model."""
