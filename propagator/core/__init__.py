"""The exact part: values in, values out.

The law of this package, held by import-linter: nothing in here waits, opens, or asks the time. Time, randomness and
keys are handed in. Foreseen outcomes are values with a reason; inability raises one `PropagatorError`.
"""
