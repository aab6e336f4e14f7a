"""The record in MLflow: runs, tags, the registry. The only room that imports MLflow."""
