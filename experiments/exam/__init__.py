"""Does the diagnosis find a fault that was planted, and leave the healthy alone?"""
