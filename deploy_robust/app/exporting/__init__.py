"""The parts of an export: images to calibrate and verify with, the verifier, and the job that makes artefacts."""
