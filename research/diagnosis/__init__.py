"""Why a classifier is wrongly certain: evidence is collected, and every cause gives a verdict."""
