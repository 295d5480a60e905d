"""The papers' numbers beside ours: what they print, which of our cells answers it, and what may be said of the two."""
