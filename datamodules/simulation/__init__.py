"""Event-camera recordings made from images and moving figures: the event data without a download.

A simulated set stands in for a recorded one where the recorded one cannot be downloaded. It has the
same folders, file formats and sensor, so readers and networks do not know the difference; its
numbers are never those of the recorded set.
"""
