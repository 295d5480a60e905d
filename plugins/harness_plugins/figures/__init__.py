"""Figures of papers, a file for each paper."""
