"""Which options suit the images? A search on the validation split."""
