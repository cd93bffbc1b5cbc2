"""The commands, one module each: parse, call `headwater.operations`, print."""
