"""Training of the zoo: crops, losses, schedule, a resumable loop and the record that travels with the weights."""
