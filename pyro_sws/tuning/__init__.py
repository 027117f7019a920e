"""Search: trials of a recipe over the values that its [search] names, with Optuna."""
