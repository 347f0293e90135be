"""Results as tables for the terminal, Markdown and the model card; nothing is computed here."""
