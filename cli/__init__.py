"""The command line: parse, call one use case, print, map the verdict to an exit code."""
