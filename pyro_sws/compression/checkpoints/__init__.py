"""Checkpoints of any size, without data: tensor by tensor, in several processes, and on again."""
