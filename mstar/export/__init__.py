"""What a run gives away: folders that are put in place whole, the cards in them, and their way to a hub."""
