"""How near does each method come to the exact posterior, where that can be computed?"""
