"""Training and evaluating one network: loss, optimizer, rates, the step and the loop around it."""
