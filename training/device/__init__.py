"""What a device can do: precision, compiling, memory, images kept on it.

Which device a worker gets is decided in `search.workers`.
"""
