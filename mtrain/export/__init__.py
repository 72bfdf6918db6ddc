"""Exchange with other programs: what is made of a trained model for them."""
