"""Learning: loss, optimiser, schedule, the update, the loop around it, and what it leaves."""
