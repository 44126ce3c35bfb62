"""The engine room: files, devices, batches, losses, the loop.

You need not open it to understand a method. Nothing here imports from outside ``core``.
"""
