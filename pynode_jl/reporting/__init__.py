"""Reporting: figures, HTML and the pages made of both."""
