"""Tells the speakers of a recording apart by their voices."""
