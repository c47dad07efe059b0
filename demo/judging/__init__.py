"""What a picture of the toy world shows, and how well it meets its prompt."""
