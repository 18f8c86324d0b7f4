"""Pure rules of scheduling and delivery: no clock, no environment, no logging, no I/O."""
