"""The walk: from a network that snapping leaves as it is to the shortest file in its tolerance."""
