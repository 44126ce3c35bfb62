"""The engine room: files, devices, batches, losses, the loop. Nobody opens it to read a method.

Nothing here imports what lies above it.
"""
