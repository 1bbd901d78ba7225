"""Figures, HTML, and the pages made of both."""
