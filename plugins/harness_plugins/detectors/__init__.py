"""Detectors of wrong labels from features and noisy labels, one file per idea."""
