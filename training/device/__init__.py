"""Device features: precision, compiling, memory, images cached on the device.

Devices are assigned to workers in `search.workers`.
"""
