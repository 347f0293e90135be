"""Quality: tasks of one's own and mteb."""
