"""Sentences, tables, figures and model cards about results; nothing is computed here."""
