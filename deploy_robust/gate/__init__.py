"""The run, in five parts that do not know each other: planner, executor, store, judge and runner."""
