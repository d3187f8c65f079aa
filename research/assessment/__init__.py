"""The main job: a classifier and images in, judged and cured, the numbers of the report out."""
