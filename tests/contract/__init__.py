"""Script jobs: the SageMaker training contract, proved on scripts of every style."""
