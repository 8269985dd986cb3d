// The program of a whole network in evaluation, as src/cpu/inference.py writes it: maps of activations, and the steps
// that make one from another.
#pragma once

#include "rule.h"

namespace cpu {

// Activations [height][pad + width + pad][stride] of one image, the padding zero. A batched map: one pixel per image.
struct Map {
  Index channels, pad, height = 0, width = 0, stride = 0, begin = 0, last_reader = -1;
  bool batched;

  Map(const float* row) : channels(row[0]), pad(row[1]), batched(row[2] != 0) {}
  void settle(Index h, Index w) {
    height = h, width = w, stride = round_up(channels, lanes);
    // Pixels an even number of cache lines apart meet in few sets of the first-level cache.
    if (channels >= 128 && stride * 4 % 128 == 0) stride += 16;
  }
  Index pixels() const { return height * width; }
  Index line() const { return width + 2 * pad; }
  Index gap() const { return 2 * pad * stride; }
  Index floats() const { return height * line() * stride + lanes; }
};

enum Operation { STEM, POINTWISE, DEPTHWISE, COPY, MAX_POOL, AVG_POOL, GLOBAL_POOL, GATE };

// One row of the program, in the order of src/cpu/inference.py.
struct Step {
  int operation;
  Index source, rows, begin, channels;  // what is read: `channels` from `begin` of the shuffled source (rows: see at())
  Index target, target_begin, out;      // where to
  Index other;                          // residual, or the gates; -1: none
  Index kernel, stride, groups;
  int code;
  double epsilon;
  Index parameter;  // weight, gamma, beta, mean, variance with batch norm, else weight and bias
  bool has_norm, same;

  Index packed = -1, scale = 0, order = 0;  // places in the workspace

  explicit Step(const float* f)
      : operation(f[0]), source(f[1]), rows(f[2]), begin(f[3]), channels(f[4]), target(f[5]), target_begin(f[6]),
        out(f[7]), other(f[8]), kernel(f[9]), stride(f[10]), groups(f[11]), code(f[12]), epsilon(f[13]),
        parameter(f[14]), has_norm(f[15] != 0), same(f[16] != 0) {}
  static constexpr Index fields = 17;

  bool is_convolution() const { return operation <= DEPTHWISE; }
  Index inner() const { return operation == STEM ? channels * kernel * kernel : channels / groups; }
  // The channel of the source that stands at `c` of what is read.
  Index at(Index c, Index source_channels) const {
    c += begin;
    return rows ? c % rows * (source_channels / rows) + c / rows : c;
  }
};

}  // namespace cpu
