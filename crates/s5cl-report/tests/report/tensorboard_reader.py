"""Prints what TensorBoard reads in a folder of event files: `step tag value`, one line a scalar."""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
print("version", events.file_version)
for tag in sorted(events.Tags()["scalars"]):
    for scalar in events.Scalars(tag):
        print(scalar.step, tag, scalar.value, scalar.wall_time)
