"""What people read: the internal report, the cards, and the bundle that may leave the house.

Everything here only reads artifacts and the summary; no number is computed that a table doesn't already hold.
"""
