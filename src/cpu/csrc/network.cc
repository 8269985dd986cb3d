// The operator that evaluates a whole network. A file of its own, so that it compiles beside the others.
#include "network.h"

using namespace cpu;

// Images, steps, maps, parameters in the order of the steps -> logits.
OPERATOR(network_infer) {
  Scratch scratch;
  Program(args, scratch).run();
}
