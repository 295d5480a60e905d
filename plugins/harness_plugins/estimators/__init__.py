"""Estimators of label noise from features and noisy labels, one file per idea."""
