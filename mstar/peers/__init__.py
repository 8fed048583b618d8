"""What a run has for other trainers: its rows with their prompts and pictures, in the forms that they read."""
